"""Splits of the paper: leakage refused, duplicates reported, samples drawn, left-out images in both readings.

Roberts et al. (2021) found leakage and duplicates behind many published figures. The paper's own Table 7 is a
case of it: 95.0 % of its left-out images are of patients it was trained on. Nothing here reads an image but
`pixel_hashes`; hashes can be published where images cannot.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.lists import ClassId, Listed
from covid_ct_mask_net.training.files import csv_text

AnyListed = TypeVar("AnyListed", bound=Listed)
# sha256 of the pixels by split and file.
Hashes = Mapping[str, Mapping[str, str]]
_HASH_COLUMNS = ("split", "file", "sha256")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SplitSummary:
    """What a list holds.

    Attributes
    ----------
    slices, scans, patients
        Numbers of each.
    slices_by_class, scans_by_class, patients_by_class
        The same by class; empty for lists without classes.
    """

    slices: int
    scans: int
    patients: int
    slices_by_class: Mapping[ClassId, int]
    scans_by_class: Mapping[ClassId, int]
    patients_by_class: Mapping[ClassId, int]


@dataclass(frozen=True)
class LeftOut:
    """Slices of a list that were not drawn for training.

    Attributes
    ----------
    slices
        All of them, in the order of the list: the paper's reading (Table 7).
    patient_disjoint
        Those of patients of whom nothing was drawn: the reading that tests anything.
    same_patient, same_scan
        Share of ``slices`` whose patient, or scan, has slices in the training sample.
    """

    slices: tuple[Listed, ...]
    patient_disjoint: tuple[Listed, ...]
    same_patient: float
    same_scan: float


def summarize(listed: Sequence[Listed]) -> SplitSummary:
    """Count slices, scans and patients; a patient with slices of two classes is one, and one in each."""

    def by_class(classes: Iterable[ClassId | None]) -> dict[ClassId, int]:
        counts = Counter(one for one in classes if one is not None)
        return {one: counts[one] for one in sorted(counts, key=int)}

    return SplitSummary(
        slices=len(listed),
        scans=len({one.scan for one in listed}),
        patients=len({one.patient for one in listed}),
        slices_by_class=by_class(one.slice_class for one in listed),
        scans_by_class=by_class(of for of, _ in {(one.slice_class, one.scan) for one in listed}),
        patients_by_class=by_class(of for of, _ in {(one.slice_class, one.patient) for one in listed}),
    )


def without_patient(listed: Sequence[Listed]) -> list[str]:
    """Return the files whose list does not say whose they are."""
    return [one.file for one in listed if not one.names_patient]


def require_patients(listed: Sequence[Listed]) -> None:
    """Refuse a list that does not say whose its slices are, where patients have to be kept apart.

    Raises
    ------
    UsageError
        If a slice names no patient; the sentence has one and counts them.
    """
    if unknown := without_patient(listed):
        raise UsageError(
            "PATIENT_UNKNOWN",
            f"{len(unknown)} of {len(listed)} images name no patient, for example {unknown[0]}, so that "
            "patients cannot be kept apart; sort the images into folders named 'Patient N', or do without.",
        )


def verify(splits: Mapping[str, Sequence[Listed]]) -> dict[str, SplitSummary]:
    """Return a summary of each split, if no patient is in two of them.

    Numbers of patients compare within a collection only (`Listed.numbering`), and say nothing of images that
    name no patient (`without_patient`).

    Parameters
    ----------
    splits : mapping of str to sequence of Listed
        By name of the split.

    Raises
    ------
    RefusedInputError
        If patients are shared; the sentence counts them and names a slice of one in each split.
    """
    for (first, ours), (second, theirs) in combinations(splits.items(), 2):
        # A patient listed under two classes is one patient, too: numbers are compared without the class.
        mine = {one.patient: one.file for one in reversed(ours)}
        shared = sorted(mine.keys() & {one.patient for one in theirs})
        if shared:
            other = next(one.file for one in theirs if one.patient == shared[0])
            raise RefusedInputError(
                "PATIENT_IN_TWO_SPLITS",
                f"{len(shared)} patients are in both {first} and {second}, for example {mine[shared[0]]} and "
                f"{other}; results on {second} would not be independent of {first}.",
            )
    return {name: summarize(listed) for name, listed in splits.items()}


def sample(
    listed: Sequence[AnyListed], per_class: int, seed: int, patients: int | None = None
) -> list[AnyListed]:
    """Draw slices of each class across as many patients as there are, or as are allowed.

    Patients take turns in random order, each giving one random slice a turn, so that patients with many
    slices do not crowd out the others.

    Parameters
    ----------
    listed : sequence of Listed
        In any order; the same slices give the same sample.
    per_class : int
    seed : int
    patients : int, optional
        Most patients of a class to draw from. Without it a list with fewer patients than slices asked for
        gives them all away: COVIDx-CT v1 has 864 in train, and 1,000 slices a class leave none.

    Returns
    -------
    list of Listed
        ``per_class`` slices a class, sorted by class and name.

    Raises
    ------
    UsageError
        If a class, or the patients drawn of it, have fewer slices; a slice has no class; or the number of
        patients is limited and a slice names none.
    """
    if patients is not None:
        require_patients(listed)
        if patients < 1:
            raise UsageError("PATIENTS", f"{patients} patients a class were asked for; give 1 or more.")
    generator = np.random.default_rng(seed)
    slices: dict[ClassId, dict[str, list[AnyListed]]] = defaultdict(lambda: defaultdict(list))
    for one in sorted(listed, key=lambda item: item.file):
        if one.slice_class is None:
            raise UsageError("NO_CLASS", f"{one.file} has no class; samples are drawn by class.")
        slices[one.slice_class][one.patient].append(one)
    drawn: list[AnyListed] = []
    for slice_class in sorted(slices, key=int):
        of_class = slices[slice_class]
        names = sorted(of_class)
        if patients is not None:
            names = [names[index] for index in sorted(generator.permutation(len(names))[:patients])]
        available = sum(len(of_class[name]) for name in names)
        if per_class < 1 or available < per_class:
            of = "" if patients is None else f" of the {len(names)} patients drawn"
            raise UsageError(
                "SAMPLE_SIZE",
                f"{per_class} slices a class were asked for; {slice_class.label} has {available}{of}, "
                f"so 1 to {available} are possible.",
            )
        drawn += _in_turns([of_class[name] for name in names], per_class, generator)
    return sorted(drawn, key=_by_class)


def left_out(listed: Sequence[Listed], drawn: Sequence[Listed]) -> LeftOut:
    """Return what a training sample leaves of the list it was drawn from, in both readings.

    Raises
    ------
    RefusedInputError
        If a slice of the sample is not in the list; the sentence names it.
    """
    names, available = {one.key for one in drawn}, {one.key for one in listed}
    strange = [one.file for one in drawn if one.key not in available]
    if strange:
        raise RefusedInputError(
            "NOT_FROM_LIST",
            f"{strange[0]} is in the sample, but not in the list ({len(strange)} of {len(names)} are not).",
        )
    patients, scans = {one.patient for one in drawn}, {one.scan for one in drawn}
    rest = tuple(one for one in listed if one.key not in names)
    disjoint = tuple(one for one in rest if one.patient not in patients)
    total = max(len(rest), 1)
    return LeftOut(
        slices=rest,
        patient_disjoint=disjoint,
        same_patient=(len(rest) - len(disjoint)) / total,
        same_scan=sum(one.scan in scans for one in rest) / total,
    )


def pixel_hash(path: Path) -> str:
    """Return the sha256 over bits, size and grey values of an image as it is trained on.

    The same pixels give the same hash, whatever the file format; 8 and 16 bits differ.

    Raises
    ------
    RefusedInputError
        If the image cannot be read, or has more than 16 bits a pixel.
    """
    # PyTorch comes along, which lists do without.
    from covid_ct_mask_net.training.datasets.read import read_grey_pixels

    grey = read_grey_pixels(path)
    pixels = grey.astype(grey.dtype.newbyteorder("<"), copy=False).tobytes()
    return hashlib.sha256(f"{grey.dtype.name} {grey.shape}".encode() + pixels).hexdigest()


def pixel_hashes(images: Mapping[str, Mapping[str, Path]]) -> dict[str, dict[str, str]]:
    """Return the `pixel_hash` of every image.

    Parameters
    ----------
    images : mapping of split to mapping of file to path
    """
    return {
        split: {file: pixel_hash(path) for file, path in files.items()} for split, files in images.items()
    }


def hashes_csv(hashes: Hashes) -> str:
    """Return hashes as CSV with the columns split, file and sha256."""
    lines = [(split, file, one) for split, files in hashes.items() for file, one in files.items()]
    return csv_text([_HASH_COLUMNS, *lines])


def read_hashes(path: Path) -> dict[str, dict[str, str]]:
    """Return the hashes of a file that `hashes_csv` wrote, of this or another source.

    Raises
    ------
    UsageError
        If there is no such file.
    RefusedInputError
        If it has other columns, or a value is no sha256; the sentence names the line.
    """
    if not path.is_file():
        raise UsageError("LIST_MISSING", f"There is no file of hashes {path}.")
    found: dict[str, dict[str, str]] = defaultdict(dict)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            if tuple(next(reader, ())) != _HASH_COLUMNS:
                raise RefusedInputError(
                    "HASHES_FORMAT", f"The first line of {path} is not {','.join(_HASH_COLUMNS)}."
                )
            for row in reader:
                if len(row) != len(_HASH_COLUMNS) or not _SHA256.fullmatch(row[2]):
                    raise RefusedInputError(
                        "HASHES_FORMAT",
                        f"Line {reader.line_num} of {path} is {','.join(row)!r}; a split, a file and a "
                        "sha256 of 64 hexadecimal digits were expected.",
                    )
                found[row[0]][row[1]] = row[2]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RefusedInputError("HASHES_FORMAT", f"The file {path} is no CSV file.") from error
    return dict(found)


def same_pixels(hashes: Hashes) -> list[list[tuple[str, str]]]:
    """Return groups of images with the same pixels.

    Parameters
    ----------
    hashes : mapping of split to mapping of file to sha256

    Returns
    -------
    list of list of (split, file)
        One group for each set of pixels that occurs more than once; those that span splits first.
    """
    by_hash: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for split, files in hashes.items():
        for file, one in files.items():
            by_hash[one].append((split, file))
    groups = [sorted(group) for group in by_hash.values() if len(group) > 1]
    return sorted(groups, key=lambda group: (len({split for split, _ in group}) == 1, group))


def _by_class(one: Listed) -> tuple[int, str]:
    return (-1 if one.slice_class is None else int(one.slice_class)), one.file


def _in_turns(patients: list[list[AnyListed]], count: int, generator: np.random.Generator) -> list[AnyListed]:
    """Take one slice of every patient in turn until there are enough."""
    shuffled = [
        [of_patient[index] for index in generator.permutation(len(of_patient))] for of_patient in patients
    ]
    turns = [shuffled[index] for index in generator.permutation(len(shuffled))]
    taken: list[AnyListed] = []
    for turn in range(max(len(of_patient) for of_patient in turns)):
        for of_patient in turns:
            if turn < len(of_patient):
                taken.append(of_patient[turn])
                if len(taken) == count:
                    return taken
    return taken
