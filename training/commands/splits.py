"""``covid-ct-mask-net splits``: check, draw and complete the splits of the paper."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from covid_ct_mask_net.errors import ExitCode, OutputError, UsageError

if TYPE_CHECKING:
    from covid_ct_mask_net.training.datasets.lists import Listed
    from covid_ct_mask_net.training.splits import SplitSummary

COVIDX, ICTCF = "covidx", "ictcf"

_DESCRIPTION = """\
Lists have one slice a line: "Class_Patient_Scan_Slice.png", with or without "class xmin ymin xmax ymax"
behind it (COVIDx-CT v1), Class being Normal, CP, NCP or 0, 1, 2; or "Patient_Slice.jpg" for segmentation.
With --layout ictcf they have "path class", for example "nCT/Patient 4/7.jpg 0", and the folder with nCT and
pCT stands for the list of all its images. iCTCF's own files ("nCT/nCT6611.jpg") name no patient.
"""

_EXAMPLES = """\
examples:
  # Refuse patients that are in two splits; count slices, scans and patients.
  covid-ct-mask-net splits verify train=train.txt val=val.txt test=test.txt
  # The same, and find images with the same pixels within and across splits.
  covid-ct-mask-net splits verify train.txt test.txt --images 2A_images
  # The same with images in several folders; pixel hashes to publish, and those of another source to compare.
  covid-ct-mask-net splits verify train=train.txt@2A_images masks=masks.txt@CNCB/images --hashes hashes.csv \\
    --known-hashes theirs.csv
  # 1,000 slices a class across 140 patients of each; other patients stay for an independent test.
  covid-ct-mask-net splits sample train.txt --per-class 1000 --patients 140 --seed 1 -o sample.txt
  # What Table 7 of the paper is computed on, and the part of it that tests anything.
  covid-ct-mask-net splits left-out train.txt --sample sample.txt -o left-out.txt
  covid-ct-mask-net splits left-out train.txt --sample sample.txt --patient-disjoint -o independent.txt
  # iCTCF: 300 slices a class, and the rest.
  covid-ct-mask-net splits sample iCTCF --layout ictcf --per-class 300 --seed 1 -o iCTCF/train.txt
  covid-ct-mask-net splits left-out iCTCF --layout ictcf --sample iCTCF/train.txt -o iCTCF/test.txt
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
        metavar="[NAME=]LIST[@DIR]",
        help="list, with a name for its split (default: the file's name) and the folder of its images",
    )
    _add_layout(verify)
    verify.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of images of lists without @DIR: hash their pixels and report those that occur twice",
    )
    verify.add_argument(
        "--hashes", type=Path, metavar="FILE", help="CSV to write the pixel hashes to: split, file, sha256"
    )
    verify.add_argument(
        "--known-hashes",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="such a CSV of another source: report what it has in common with these lists; may be repeated",
    )
    verify.set_defaults(run=run_verify)

    sample = verbs.add_parser("sample", help="draw slices of each class across patients")
    sample.add_argument("list", type=Path, metavar="LIST", help="list to draw from")
    _add_layout(sample)
    sample.add_argument(
        "--per-class", type=int, default=1000, metavar="N", help="slices a class (paper: 1000)"
    )
    sample.add_argument(
        "--patients",
        type=int,
        metavar="N",
        help="draw from at most N patients a class, by the seed, so that others are left for an independent "
        "test (left-out --patient-disjoint). Without it every patient gives slices where more slices are "
        "drawn than there are patients: 1,000 a class of COVIDx-CT v1 leave none (the author's sample has "
        "140, 252 and 216 patients)",
    )
    sample.add_argument("--seed", type=int, required=True, metavar="N", help="the same seed draws the same")
    sample.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="list to write")
    sample.set_defaults(run=run_sample)

    rest = verbs.add_parser("left-out", help="list what a sample leaves, and say how independent it is")
    rest.add_argument("list", type=Path, metavar="LIST", help="list that the sample was drawn from")
    _add_layout(rest)
    rest.add_argument("--sample", type=Path, required=True, metavar="LIST", help="slices trained on")
    rest.add_argument(
        "--patient-disjoint",
        action="store_true",
        help="only slices of patients of whom the sample has none (the paper's reading keeps all)",
    )
    rest.add_argument("-o", "--output", type=Path, metavar="FILE", help="list to write")
    rest.set_defaults(run=run_left_out)


def _add_layout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layout",
        choices=(COVIDX, ICTCF),
        default=COVIDX,
        help="covidx (default): names say class, patient and scan, or patient (segmentation); ictcf: path "
        "and class, or the folder",
    )


def run_verify(arguments: argparse.Namespace) -> ExitCode:
    """Check lists against one another.

    Returns
    -------
    ExitCode
        Done, or refused input where images of two splits have the same pixels.
    """
    from covid_ct_mask_net.training.splits import verify

    splits: dict[str, Sequence[Listed]] = {}
    folders: dict[str, Path | None] = {}
    for text in arguments.lists:
        name, path, folder = _named(text)
        if name in splits:
            raise UsageError("SPLIT_TWICE", f"Two lists are named {name}; write NAME={path} for one of them.")
        splits[name], folders[name] = _read(path, arguments.layout), folder or arguments.images
    wanted = any(folders.values()) or arguments.hashes or arguments.known_hashes
    without = [name for name, folder in folders.items() if folder is None]
    if wanted and without:
        raise UsageError(
            "IMAGES_MISSING",
            f"The images of {', '.join(without)} have no folder, so that pixels cannot be compared; write "
            "LIST@DIR, or give --images DIR.",
        )
    for name, summary in verify(splits).items():
        sys.stdout.write(_line(name, summary))
    sys.stdout.write("No patient is in two splits.\n")
    if len(numberings := {listed[0].numbering for listed in splits.values()}) > 1:
        sys.stdout.write(
            f"Patients of {' and '.join(sorted(numberings))} lists have numbers of their own: whether they "
            "share patients cannot be told.\n"
        )
    _note_unknown([one for listed in splits.values() for one in listed])
    if not wanted:
        return ExitCode.DONE
    return _report_duplicates(splits, folders, arguments.hashes, arguments.known_hashes)


def run_sample(arguments: argparse.Namespace) -> ExitCode:
    """Draw a sample and write its list."""
    from covid_ct_mask_net.training.splits import left_out, sample, summarize

    listed = _read(arguments.list, arguments.layout)
    drawn = sample(listed, arguments.per_class, arguments.seed, arguments.patients)
    _write_list(arguments.output, drawn)
    sys.stdout.write(_line(str(arguments.output), summarize(drawn)))
    if not _note_unknown(listed):
        rest = left_out(listed, drawn).patient_disjoint
        sys.stdout.write(_line("left of other patients", summarize(rest)))
    return ExitCode.DONE


def run_left_out(arguments: argparse.Namespace) -> ExitCode:
    """Report, and on request write, what a sample leaves."""
    from covid_ct_mask_net.training.splits import left_out, require_patients, summarize

    listed = _read(arguments.list, arguments.layout)
    if arguments.patient_disjoint:
        require_patients(listed)
    rest = left_out(listed, _read(arguments.sample, arguments.layout))
    sys.stdout.write(_line("left out", summarize(rest.slices)))
    if not _note_unknown(listed):
        sys.stdout.write(
            f"  {rest.same_patient:.1%} of these are of patients, and {rest.same_scan:.1%} of scans, "
            "that the sample has slices of.\n"
        )
        sys.stdout.write(_line("patient-disjoint", summarize(rest.patient_disjoint)))
    if arguments.output:
        _write_list(arguments.output, rest.patient_disjoint if arguments.patient_disjoint else rest.slices)
    return ExitCode.DONE


def _named(text: str) -> tuple[str, Path, Path | None]:
    """Return name, list and folder of ``[NAME=]LIST[@DIR]``; a file whose own name has an @ is a list."""
    name, separator, rest = text.partition("=")
    listed = rest if separator else text
    folder: Path | None = None
    if "@" in listed and not Path(listed).exists():
        listed, _, below = listed.rpartition("@")
        folder = Path(below)
    return (name if separator else Path(listed).stem), Path(listed), folder


def _read(path: Path, layout: str) -> Sequence[Listed]:
    from covid_ct_mask_net.training.datasets.ictcf import listed_images
    from covid_ct_mask_net.training.datasets.lists import read_list

    return listed_images(path) if layout == ICTCF else read_list(path)


def _note_unknown(listed: Sequence[Listed]) -> bool:
    """Say so, and return true, if patients cannot be told apart."""
    from covid_ct_mask_net.training.splits import without_patient

    unknown = without_patient(listed)
    if unknown:
        sys.stdout.write(
            f"{len(unknown):,} of {len(listed):,} images name no patient (for example {unknown[0]}) and were "
            "counted as patients of their own: whether lists share patients cannot be told.\n"
        )
    return bool(unknown)


def _line(name: str, summary: SplitSummary) -> str:
    line = f"{name}: {summary.slices:,} slices, {summary.scans:,} scans, {summary.patients:,} patients"
    parts = [
        f"{one.label} {count:,} / {summary.scans_by_class[one]:,} / {summary.patients_by_class[one]:,}"
        for one, count in summary.slices_by_class.items()
    ]
    return line + (f" ({'; '.join(parts)})" if parts else "") + "\n"


def _report_duplicates(
    splits: Mapping[str, Sequence[Listed]],
    folders: Mapping[str, Path | None],
    output: Path | None,
    known: Sequence[Path],
) -> ExitCode:
    from covid_ct_mask_net.training.datasets.lists import listed_files
    from covid_ct_mask_net.training.splits import hashes_csv, pixel_hashes, read_hashes, same_pixels

    # Read first: hashing takes long, a wrong file of hashes shows at once.
    others = {f"{path}: {name}": files for path in known for name, files in read_hashes(path).items()}
    images = {
        name: dict(zip((one.file for one in listed), listed_files(listed, folder), strict=True))
        for name, listed in splits.items()
        if (folder := folders[name]) is not None
    }
    hashes = pixel_hashes(images)
    if output:
        _write(output, hashes_csv(hashes))
        sys.stdout.write(f"{sum(map(len, hashes.values())):,} pixel hashes are in {output}.\n")
    # What two other sources have in common with one another is not of these lists.
    groups = [
        group for group in same_pixels({**others, **hashes}) if any(split in hashes for split, _ in group)
    ]
    across = [group for group in groups if len({split for split, _ in group}) > 1]
    for group in groups:
        sys.stdout.write("same pixels: " + ", ".join(f"{split}/{file}" for split, file in group) + "\n")
    sys.stdout.write(
        f"{len(groups)} groups of images with the same pixels, {len(across)} of them across splits.\n"
    )
    return ExitCode.REFUSED_INPUT if across else ExitCode.DONE


def _write_list(path: Path, listed: Sequence[Listed]) -> None:
    _write(path, "".join(f"{one.line}\n" for one in listed))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError("LIST_NOT_WRITTEN", f"{path} could not be written: {error.strerror}.") from error
