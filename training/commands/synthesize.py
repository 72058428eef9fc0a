"""``covid-ct-mask-net synthesize``: chest CT with known lesions, made up or put into real lungs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.errors import ExitCode, UsageError

_DESCRIPTION = f"""\
Make chest CT scans with lesions that are known voxel by voxel: Control, Common Pneumonia and COVID-19 in
turn, split by patient. Chests are phantoms, or real ones given with --real. The same seed and options give
the same bytes. {RESEARCH_NOTICE}
"""

_EXAMPLES = """\
examples:
  # 60 phantom patients as NIfTI with masks, and as 8-bit slices that the training configurations read.
  covid-ct-mask-net synthesize cohort --patients 60 --seed 1
  # Three small DICOM studies, one of each class, as `demo` makes them.
  covid-ct-mask-net synthesize studies --demo
  # Lesions in real lungs; each folder is one person, whose licence allows it.
  covid-ct-mask-net synthesize implants --patients 12 --seed 1 --real ct/person-a --real ct/person-b \\
      --credit "TCIA Lung-PET-CT-Dx, CC BY 4.0, doi 10.7937/TCIA.2020.NNC2-0461"
"""

_WORKERS = 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "synthesize",
        help="make synthetic cohorts with lesion masks (DICOM, NIfTI, slices)",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="new folder")
    parser.add_argument("--patients", type=int, default=30, metavar="N", help="patients (default: 30)")
    parser.add_argument("--seed", type=int, default=20201106, metavar="N", help="default: 20201106")
    parser.add_argument("--size", type=int, default=512, metavar="N", help="rows and columns (default: 512)")
    parser.add_argument(
        "--step",
        type=float,
        metavar="MM",
        help="slice distance (default: 2.5 to 8 mm, one a patient)",
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=("dicom", "nifti", "slices"),
        default=["nifti", "slices"],
        metavar="F",
        help="dicom, nifti, slices: one or several (default: nifti slices)",
    )
    parser.add_argument(
        "--shares",
        type=float,
        nargs=3,
        default=(0.7, 0.15, 0.15),
        metavar=("TRAIN", "VAL", "TEST"),
        help="shares of patients in the splits (default: 0.7 0.15 0.15)",
    )
    parser.add_argument(
        "--mass-share",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of patients, of any class, with solid masses in their lungs, which are labelled neither "
        "as lesions nor as disease: how often are they taken for pneumonia? (default: 0)",
    )
    parser.add_argument(
        "--emphysema-share",
        type=float,
        metavar="SHARE",
        help="share of phantoms with emphysema, of any class: is the lung between the holes taken for ground "
        "glass? (default: 0.2)",
    )
    parser.add_argument(
        "--real",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with chest CT series in DICOM of one person free of infection; may be repeated",
    )
    parser.add_argument(
        "--credit", default="", metavar="TEXT", help="attribution of the real series, required with --real"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="patients made at a time, 1.6 GB of memory for each of 512 rows (default: 2, or 1 on one core)",
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="three small DICOM studies, one of each class; only --seed, --real, --credit and --workers "
        "count besides",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Make the cohort.

    Returns
    -------
    ExitCode
        Done; failures are raised.
    """
    from covid_ct_mask_net.engines.cores import usable_cores
    from covid_ct_mask_net.training.synthesis.cohort import CohortSettings, Layout, write_cohort
    from covid_ct_mask_net.training.synthesis.real_lungs import read_real_chests

    if arguments.demo:
        settings = CohortSettings(
            3, arguments.seed, size=384, step_mm=5.0, shares=(0.0, 0.0, 1.0), layouts=(Layout.DICOM,)
        )
    else:
        emphysema = arguments.emphysema_share
        settings = CohortSettings(
            arguments.patients,
            arguments.seed,
            arguments.size,
            arguments.step,
            tuple(arguments.shares),
            tuple(Layout(name) for name in arguments.format),
            arguments.mass_share,
            **({} if emphysema is None else {"emphysema_share": emphysema}),
        )
    if arguments.real and not arguments.credit:
        raise UsageError(
            "CREDIT_MISSING", "Real series were given without --credit; say whose they are and which licence."
        )
    if arguments.real and arguments.emphysema_share is not None:
        raise UsageError(
            "EMPHYSEMA_SHARE",
            "Emphysema is drawn into phantoms alone; leave --emphysema-share or --real out.",
        )
    real = [(f"real-{index:02d}", read_real_chests(folder)) for index, folder in enumerate(arguments.real)]
    workers = min(_WORKERS, usable_cores()) if arguments.workers is None else arguments.workers
    write_cohort(arguments.output, settings, real, arguments.credit, _say, workers)
    return ExitCode.DONE


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
