"""``covid-ct-mask-net triage``: studies in, result sets and a worklist out."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.errors import ExitCode, UntrustedModelError, UsageError
from covid_ct_mask_net.lean_imports import lean_imports
from covid_ct_mask_net.slice_sampling import SlicePlan

if TYPE_CHECKING:
    from covid_ct_mask_net.app.study_job import StudyJob
    from covid_ct_mask_net.pipeline import VolumePipeline

_EXAMPLES = """\
examples:
  covid-ct-mask-net triage /archive/patient-7 -o out           one or more DICOM studies in a folder
  covid-ct-mask-net triage ct1.nii.gz ct2.nii.gz -o out        NIfTI volumes in Hounsfield units
  SOURCE_DATE_EPOCH=0 covid-ct-mask-net triage in -o out       equal bytes in every run

results:
  OUT/worklist.json            all studies in reading order, those of earlier runs in OUT too
  OUT/<pseudonym>/result.json  what was found in one study, or why it was not assessed
  OUT/worklist.html, OUT/<pseudonym>/report.html
                               the same as pages to look at
  for DICOM input, as instances of the study:
  OUT/<pseudonym>/sr.dcm       structured report (TID 1500); also for studies that were not assessed
  OUT/<pseudonym>/seg.dcm      segmentation of ground-glass opacity and consolidation
  OUT/<pseudonym>/sc-N.dcm     up to three key images with burned-in outlines
  OUT/<pseudonym>/gsps.dcm     outlines for display on the original images
  OUT/<pseudonym>/kos.dcm      selection of the images with the largest lesions
  OUT/<pseudonym>/pdf.dcm      one page as PDF, with --pdf
  OUT/audit.jsonl              who did what to which study, in the terms of DICOM; only ever added to
  OUT/run.json                 settings, timings and memory (unless SOURCE_DATE_EPOCH is set), software
"""

_DEVICE = re.compile(r"cpu|cuda(:[0-9]{1,3})?")
_RESULT_SWITCHES = (
    ("--no-seg", "segmentation=false", "no segmentation"),
    ("--no-gsps", "presentation_state=false", "no outlines as presentation state"),
    ("--no-kos", "key_objects=false", "no key object selection"),
    ("--pdf", "pdf=true", "also one page as PDF in DICOM"),
    ("--no-html", "html=false", "no report.html and worklist.html"),
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "triage",
        help="triage chest CT studies (DICOM folders or NIfTI files)",
        description="Triage chest CT studies. Inputs may hold any number of patients and studies; each study "
        f"gets a result set of its own. {RESEARCH_NOTICE}",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="DICOM folder or NIfTI file")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="folder for results")
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="PATH",
        help="bundle folder, or TorchScript file of both networks (default: the bundle of this installation)",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="checkpoint to use instead of the bundle's; its hash must be listed in MANIFEST.sha256 beside "
        'it. "untrained" takes seeded random weights',
    )
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda or cuda:N (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--engine",
        choices=["auto", "torch", "exact", "fast"],
        help="how the networks are computed: exact (float32), fast (bfloat16, or int8 on a CPU: other "
        "numbers, for weights trained for it as the shipped ones are, which then give the class of exact on "
        "98 of 100 synthetic slices), torch (the reference); auto, the default, is torch on a GPU and exact "
        "on a CPU",
    )
    parser.add_argument(
        "--slices",
        metavar="WHICH",
        help="lung slices to read: all (default); adaptive: from coarse to fine, until the others can no "
        "longer change class, probabilities and priority; every=MM or adaptive=MM: one in each MM "
        "millimetres. What was left out is said in the results",
    )
    _add_report_switches(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no table")
    group = parser.add_argument_group("settings and logs", "see docs/settings.md")
    group.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="YAML file of limits, gates and rules; unknown keys end the run",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="one setting, for example limits.study_seconds=600; wins over the file",
    )
    group.add_argument(
        "--lossy",
        action="append_const",
        dest="set",
        const="limits.lossy=true",
        help="read images compressed with loss too; the results then carry a warning",
    )
    group.add_argument(
        "--series-rules",
        type=Path,
        metavar="FILE",
        help="YAML file of rules for the choice of the series: prefer, avoid, exclude or require series by "
        "their attributes",
    )
    group.add_argument(
        "--list-settings", action=ListSettings, help="print all settings with their default values, and end"
    )
    group.add_argument(
        "--log",
        choices=["text", "json"],
        default="text",
        help="logs on standard error: text, warnings only (default), or one JSON object a line",
    )
    group.add_argument("--debug", action="store_true", help="all log messages, with tracebacks")
    parser.set_defaults(run=run)


def _add_report_switches(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "results",
        "what is written beside result.json and sr.dcm; the same as settings of the section results",
    )
    group.add_argument(
        "--sr-class",
        choices=["comprehensive-3d", "comprehensive"],
        help="SOP class of sr.dcm; some archives take only the second (default: comprehensive-3d)",
    )
    group.add_argument(
        "--key-images", type=int, metavar="N", help="at most N key images, 0 to 3 (default: 3)"
    )
    for option, setting, text in _RESULT_SWITCHES:
        group.add_argument(
            option, action="append_const", dest="set", default=[], const=f"results.{setting}", help=text
        )


def run(arguments: argparse.Namespace) -> ExitCode:
    """Triage the inputs and print a summary.

    Returns
    -------
    ExitCode
        The worst of all studies.
    """
    from covid_ct_mask_net.app.process_safety import settled_process

    with settled_process():
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> ExitCode:
    from tqdm import tqdm

    from covid_ct_mask_net.app.bundles import find_bundle
    from covid_ct_mask_net.app.logs import LogStyle, configure_logs
    from covid_ct_mask_net.app.run import TriageRun
    from covid_ct_mask_net.app.settings import AppSettings
    from covid_ct_mask_net.app.summary import summary_table

    withheld = configure_logs(LogStyle(arguments.log), debug=arguments.debug)
    named = {"sr_class": arguments.sr_class, "key_images": arguments.key_images}
    values = [f"results.{key}={value}" for key, value in named.items() if value is not None]
    settings = AppSettings.read(arguments.settings, [*arguments.set, *values], arguments.series_rules)
    # Before anything is read or made: what is wrong with the arguments is told at once.
    bundle, inference = find_bundle(arguments.bundle), {**_settings(arguments), **settings.of_inference()}
    # Around all of it: what a thread has begun is over before the process ends, also if it is told to.
    with ThreadPoolExecutor(1) as pool:
        # Libraries and weights load while reader processes look through the files.
        loading = pool.submit(_load, bundle, inference)
        with tqdm(
            desc="reading headers", unit=" files", disable=arguments.quiet or None, leave=False
        ) as files:
            triage_run = TriageRun.start(
                arguments.inputs, arguments.output, files.update, settings=settings, withheld=withheld
            )
        with triage_run:
            # Also without a study: weights that are not trusted and devices that are not there are told.
            pipeline = loading.result()
            triage_run.inference = pipeline.settings
            if len(triage_run):
                # Graphs are compiled while the first study is read. What fails here fails again, and is then
                # the result of a study.
                pool.submit(pipeline.network.warm)
                from covid_ct_mask_net.app.chain import StudyChain
                from covid_ct_mask_net.app.study_line import in_turn

                report = pipeline.network.report
                if report.note:
                    sys.stderr.write(f"Engine {report.name}: {report.note}.\n")
                with SliceBar(len(triage_run), disable=arguments.quiet) as bar:
                    chain = StudyChain.of(pipeline, triage_run.output, settings, bar.advance)
                    # Closed before the run is: what is being written is written to its end, or removed.
                    with contextlib.closing(in_turn(chain, bar.studies(triage_run.jobs()))) as line:
                        for job in line:
                            triage_run.finished(job)
            code = triage_run.conclude()
    for entry in triage_run.entries:
        for reason in entry.reasons:
            sys.stderr.write(f"{entry.pseudonym}: {reason.code}: {reason.sentence}\n")
    if not arguments.quiet:
        sys.stdout.write(summary_table(triage_run.entries, triage_run.output))
    return code


def _load(bundle: Path, inference: dict[str, Any]) -> VolumePipeline:
    """Return the pipeline of a bundle with changed entries of its ``inference.yaml``."""
    with lean_imports():
        from covid_ct_mask_net.pipeline import load_pipeline

        # Not needed here, but soon, and it takes as long to import.
        importlib.import_module("covid_ct_mask_net.app.study_line")

    return load_pipeline(bundle, inference)


class ListSettings(argparse.Action):
    """Print the settings as a settings file and end, as ``--help`` does."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the settings of the arguments so far."""
        from covid_ct_mask_net.app.settings import AppSettings

        sys.stdout.write(AppSettings().listing())
        parser.exit()


class SliceBar:
    """Progress over the slices of one study after the other."""

    def __init__(self, studies: int, *, disable: bool) -> None:
        from tqdm import tqdm

        self._studies = studies
        self._number = 0
        # None lets tqdm show nothing where the output is no terminal.
        self._bar = tqdm(unit=" slices", disable=disable or None, leave=True)

    def __enter__(self) -> SliceBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def studies(self, jobs: Iterable[StudyJob]) -> Iterator[StudyJob]:
        """Yield the studies; each begins when it is taken."""
        for job in jobs:
            self._number += 1
            self._bar.reset()
            self._bar.set_description(f"study {self._number}/{self._studies} {job.source.pseudonym}")
            yield job

    def advance(self, pseudonym: str, done: int, total: int) -> None:
        """Take note of slices done."""
        del pseudonym
        self._bar.total = total
        self._bar.update(done)


def _settings(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the entries of ``inference.yaml`` that the arguments replace, as far as told without loading.

    Raises
    ------
    UsageError
        ``SETTING`` or ``DEVICE`` for what is not of the form.
    UntrustedModelError
        ``WEIGHTS_MISSING``. Whether weights are trusted, and a GPU is there, is found when they are loaded.
    """
    entries: dict[str, str] = {}
    if arguments.weights is not None:
        entries["weights"] = arguments.weights
        if arguments.weights != "untrained":
            path = Path(arguments.weights).resolve()
            if not path.is_file():
                raise UntrustedModelError(
                    "WEIGHTS_MISSING",
                    f"There are no weights at {path}; give the path of a checkpoint, or --weights untrained.",
                )
            entries["weights"] = str(path)
    if arguments.device is not None:
        if _DEVICE.fullmatch(arguments.device) is None:
            raise UsageError(
                "DEVICE", f"There is no device {arguments.device!r}; cpu, cuda or cuda:N is expected."
            )
        entries["device"] = arguments.device
    if arguments.engine is not None:
        entries["engine"] = arguments.engine
    if arguments.slices is not None:
        entries["slices"] = SlicePlan.parse(arguments.slices).text
    return entries
