"""``covid-ct-mask-net splits``: check, draw and complete the splits of the paper."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from covid_ct_mask_net.errors import ExitCode, OutputError, RefusedInputError, UsageError

if TYPE_CHECKING:
    from covid_ct_mask_net.training.datasets.lists import ListedSlice
    from covid_ct_mask_net.training.splits import SplitSummary

_DESCRIPTION = """\
Lists have one slice a line: "Class_Patient_Scan_Slice.png", with or without "class xmin ymin xmax ymax"
behind it (COVIDx-CT v1), Class being Normal, CP, NCP or 0, 1, 2; or "Patient_Slice.jpg" for segmentation.
"""

_EXAMPLES = """\
examples:
  # Refuse patients that are in two splits; count slices, scans and patients.
  covid-ct-mask-net splits verify train=train.txt val=val.txt test=test.txt
  # The same, and find images with the same pixels within and across splits.
  covid-ct-mask-net splits verify train.txt test.txt --images 2A_images
  # 1,000 slices a class, across patients, as the paper trains on.
  covid-ct-mask-net splits sample train.txt --per-class 1000 --seed 1 -o sample.txt
  # What Table 7 of the paper is computed on, and the part of it that tests anything.
  covid-ct-mask-net splits left-out train.txt --sample sample.txt -o left-out.txt
  covid-ct-mask-net splits left-out train.txt --sample sample.txt --patient-disjoint -o independent.txt
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its three verbs to the command line."""
    parser = subparsers.add_parser(
        "splits",
        help="verify, sample and complete the lists of training and test slices",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    verify = verbs.add_parser(
        "verify", help="refuse patients in two splits (exit 4) and report duplicate pixels"
    )
    verify.add_argument(
        "lists",
        nargs="+",
        metavar="[NAME=]LIST",
        help="list, with a name for its split (default: the file's name)",
    )
    verify.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of all images: hash their pixels and report those that occur twice",
    )
    verify.set_defaults(run=run_verify)

    sample = verbs.add_parser("sample", help="draw slices of each class across patients")
    sample.add_argument("list", type=Path, metavar="LIST", help="list to draw from")
    sample.add_argument(
        "--per-class", type=int, default=1000, metavar="N", help="slices a class (paper: 1000)"
    )
    sample.add_argument("--seed", type=int, required=True, metavar="N", help="the same seed draws the same")
    sample.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="list to write")
    sample.set_defaults(run=run_sample)

    rest = verbs.add_parser("left-out", help="list what a sample leaves, and say how independent it is")
    rest.add_argument("list", type=Path, metavar="LIST", help="list that the sample was drawn from")
    rest.add_argument("--sample", type=Path, required=True, metavar="LIST", help="slices trained on")
    rest.add_argument(
        "--patient-disjoint",
        action="store_true",
        help="only slices of patients of whom the sample has none (the paper's reading keeps all)",
    )
    rest.add_argument("-o", "--output", type=Path, metavar="FILE", help="list to write")
    rest.set_defaults(run=run_left_out)


def run_verify(arguments: argparse.Namespace) -> ExitCode:
    """Check lists against one another.

    Returns
    -------
    ExitCode
        Done, or refused input where images of two splits have the same pixels.
    """
    from covid_ct_mask_net.training.datasets.lists import read_list
    from covid_ct_mask_net.training.splits import verify

    splits: dict[str, list[ListedSlice]] = {}
    for text in arguments.lists:
        name, path = _named(text)
        if name in splits:
            raise UsageError("SPLIT_TWICE", f"Two lists are named {name}; write NAME={path} for one of them.")
        splits[name] = read_list(path)
    for name, summary in verify(splits).items():
        sys.stdout.write(_line(name, summary))
    sys.stdout.write("No patient is in two splits.\n")
    return _report_duplicates(splits, arguments.images) if arguments.images else ExitCode.DONE


def run_sample(arguments: argparse.Namespace) -> ExitCode:
    """Draw a sample and write its list."""
    from covid_ct_mask_net.training.datasets.lists import read_list
    from covid_ct_mask_net.training.splits import sample, summarize

    drawn = sample(read_list(arguments.list), arguments.per_class, arguments.seed)
    _write(arguments.output, drawn)
    sys.stdout.write(_line(str(arguments.output), summarize(drawn)))
    return ExitCode.DONE


def run_left_out(arguments: argparse.Namespace) -> ExitCode:
    """Report, and on request write, what a sample leaves."""
    from covid_ct_mask_net.training.datasets.lists import read_list
    from covid_ct_mask_net.training.splits import left_out, summarize

    rest = left_out(read_list(arguments.list), read_list(arguments.sample))
    sys.stdout.write(_line("left out", summarize(rest.slices)))
    sys.stdout.write(
        f"  {rest.same_patient:.1%} of these are of patients, and {rest.same_scan:.1%} of scans, "
        "that the sample has slices of.\n"
    )
    sys.stdout.write(_line("patient-disjoint", summarize(rest.patient_disjoint)))
    if arguments.output:
        _write(arguments.output, rest.patient_disjoint if arguments.patient_disjoint else rest.slices)
    return ExitCode.DONE


def _named(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator else (Path(text).stem, Path(text))


def _line(name: str, summary: SplitSummary) -> str:
    line = f"{name}: {summary.slices:,} slices, {summary.scans:,} scans, {summary.patients:,} patients"
    parts = [
        f"{one.label} {count:,} / {summary.scans_by_class[one]:,} / {summary.patients_by_class[one]:,}"
        for one, count in summary.slices_by_class.items()
    ]
    return line + (f" ({'; '.join(parts)})" if parts else "") + "\n"


def _report_duplicates(splits: dict[str, list[ListedSlice]], folder: Path) -> ExitCode:
    from covid_ct_mask_net.training.splits import duplicate_pixels

    images = {name: {one.file: folder / one.file for one in listed} for name, listed in splits.items()}
    missing = [path for files in images.values() for path in files.values() if not path.is_file()]
    if missing:
        raise RefusedInputError(
            "LIST_MISMATCH", f"{missing[0].name} is listed, but not in {folder} ({len(missing)} are missing)."
        )
    groups = duplicate_pixels(images)
    across = [group for group in groups if len({split for split, _ in group}) > 1]
    for group in groups:
        sys.stdout.write("same pixels: " + ", ".join(f"{split}/{file}" for split, file in group) + "\n")
    sys.stdout.write(
        f"{len(groups)} groups of images with the same pixels, {len(across)} of them across splits.\n"
    )
    return ExitCode.REFUSED_INPUT if across else ExitCode.DONE


def _write(path: Path, listed: Sequence[ListedSlice]) -> None:
    lines = []
    for one in listed:
        values = () if one.lung_box is None else (int(one.name.slice_class or 0), *one.lung_box)
        lines.append(" ".join([one.file, *map(str, values)]) + "\n")
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise OutputError("LIST_NOT_WRITTEN", f"{path} could not be written: {error.strerror}.") from error
