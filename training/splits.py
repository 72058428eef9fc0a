"""Splits of the paper: leakage refused, duplicates reported, samples drawn, left-out images in both readings.

Roberts et al. (2021) found leakage and duplicates behind many published figures. The paper's own Table 7 is a
case of it: 95.0 % of its left-out images are of patients it was trained on. Nothing here reads an image but
`duplicate_pixels`.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.datasets.lists import ListedSlice

Patient = tuple[SliceClass | None, str]


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
    slices_by_class: Mapping[SliceClass, int]
    scans_by_class: Mapping[SliceClass, int]
    patients_by_class: Mapping[SliceClass, int]


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

    slices: tuple[ListedSlice, ...]
    patient_disjoint: tuple[ListedSlice, ...]
    same_patient: float
    same_scan: float


def patient_of(one: ListedSlice) -> Patient:
    """Return the patient of a slice; numbers count within a class, as the collection gives them out."""
    return one.name.slice_class, one.name.patient


def scan_of(one: ListedSlice) -> tuple[SliceClass | None, str, str]:
    """Return the scan of a slice."""
    return one.name.slice_class, one.name.patient, one.name.scan


def summarize(listed: Sequence[ListedSlice]) -> SplitSummary:
    """Count slices, scans and patients."""

    def by_class(classes: Iterable[SliceClass | None]) -> dict[SliceClass, int]:
        counts = Counter(classes)
        return {one: counts[one] for one in SliceClass if counts[one]}

    patients = {patient_of(one) for one in listed}
    scans = {scan_of(one) for one in listed}
    return SplitSummary(
        slices=len(listed),
        scans=len(scans),
        patients=len(patients),
        slices_by_class=by_class(one.name.slice_class for one in listed),
        scans_by_class=by_class(scan[0] for scan in scans),
        patients_by_class=by_class(patient[0] for patient in patients),
    )


def verify(splits: Mapping[str, Sequence[ListedSlice]]) -> dict[str, SplitSummary]:
    """Return a summary of each split, if no patient is in two of them.

    Parameters
    ----------
    splits : mapping of str to sequence of ListedSlice
        By name of the split.

    Raises
    ------
    RefusedInputError
        If patients are shared; the sentence counts them and names a slice of one in each split.
    """
    for (first, ours), (second, theirs) in combinations(splits.items(), 2):
        # A patient listed under two classes is one patient, too: numbers are compared without the class.
        mine = {one.name.patient: one.file for one in reversed(ours)}
        shared = sorted(mine.keys() & {one.name.patient for one in theirs})
        if shared:
            other = next(one.file for one in theirs if one.name.patient == shared[0])
            raise RefusedInputError(
                "PATIENT_IN_TWO_SPLITS",
                f"{len(shared)} patients are in both {first} and {second}, for example {mine[shared[0]]} and "
                f"{other}; results on {second} would not be independent of {first}.",
            )
    return {name: summarize(listed) for name, listed in splits.items()}


def sample(listed: Sequence[ListedSlice], per_class: int, seed: int) -> list[ListedSlice]:
    """Draw slices of each class across as many patients as there are.

    Patients take turns in random order, each giving one random slice a turn, so that patients with many
    slices do not crowd out the others.

    Parameters
    ----------
    listed : sequence of ListedSlice
        In any order; the same slices give the same sample.
    per_class : int
    seed : int

    Returns
    -------
    list of ListedSlice
        ``per_class`` slices a class, sorted by class and name.

    Raises
    ------
    UsageError
        If a class has fewer slices, or a slice has no class.
    """
    generator = np.random.default_rng(seed)
    slices: dict[SliceClass, dict[str, list[ListedSlice]]] = defaultdict(lambda: defaultdict(list))
    for one in sorted(listed, key=lambda item: item.file):
        if one.name.slice_class is None:
            raise UsageError("NO_CLASS", f"{one.file} has no class; samples are drawn by class.")
        slices[one.name.slice_class][one.name.patient].append(one)
    drawn: list[ListedSlice] = []
    for slice_class in sorted(slices):
        patients = slices[slice_class]
        available = sum(len(of_patient) for of_patient in patients.values())
        if per_class < 1 or available < per_class:
            raise UsageError(
                "SAMPLE_SIZE",
                f"{per_class} slices a class were asked for; {slice_class.label} has {available}, "
                f"so 1 to {available} are possible.",
            )
        drawn += _in_turns([patients[name] for name in sorted(patients)], per_class, generator)
    return sorted(drawn, key=lambda one: (one.name.original, one.file))


def left_out(listed: Sequence[ListedSlice], drawn: Sequence[ListedSlice]) -> LeftOut:
    """Return what a training sample leaves of the list it was drawn from, in both readings.

    Raises
    ------
    RefusedInputError
        If a slice of the sample is not in the list; the sentence names it.
    """
    names, available = {one.name for one in drawn}, {one.name for one in listed}
    strange = [one.file for one in drawn if one.name not in available]
    if strange:
        raise RefusedInputError(
            "NOT_FROM_LIST",
            f"{strange[0]} is in the sample, but not in the list ({len(strange)} of {len(names)} are not).",
        )
    patients, scans = {patient_of(one) for one in drawn}, {scan_of(one) for one in drawn}
    rest = tuple(one for one in listed if one.name not in names)
    disjoint = tuple(one for one in rest if patient_of(one) not in patients)
    total = max(len(rest), 1)
    return LeftOut(
        slices=rest,
        patient_disjoint=disjoint,
        same_patient=(len(rest) - len(disjoint)) / total,
        same_scan=sum(scan_of(one) in scans for one in rest) / total,
    )


def pixel_hash(path: Path) -> str:
    """Return the sha256 over size and grey values of an image: the same pixels, whatever the file format.

    Raises
    ------
    RefusedInputError
        If the image cannot be read.
    """
    try:
        with Image.open(path) as image:
            grey = image.convert("L")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise RefusedInputError("IMAGE_UNREADABLE", f"The image {path} cannot be read: {error}.") from error
    return hashlib.sha256(f"{grey.size}".encode() + grey.tobytes()).hexdigest()


def duplicate_pixels(images: Mapping[str, Mapping[str, Path]]) -> list[list[tuple[str, str]]]:
    """Return groups of images with the same pixels.

    Parameters
    ----------
    images : mapping of split to mapping of file to path

    Returns
    -------
    list of list of (split, file)
        One group for each set of pixels that occurs more than once; those that span splits first.
    """
    by_hash: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for split, files in images.items():
        for file, path in files.items():
            by_hash[pixel_hash(path)].append((split, file))
    groups = [sorted(group) for group in by_hash.values() if len(group) > 1]
    return sorted(groups, key=lambda group: (len({split for split, _ in group}) == 1, group))


def _in_turns(
    patients: list[list[ListedSlice]], count: int, generator: np.random.Generator
) -> list[ListedSlice]:
    """Take one slice of every patient in turn until there are enough."""
    shuffled = [
        [of_patient[index] for index in generator.permutation(len(of_patient))] for of_patient in patients
    ]
    turns = [shuffled[index] for index in generator.permutation(len(shuffled))]
    taken: list[ListedSlice] = []
    for turn in range(max(len(of_patient) for of_patient in turns)):
        for of_patient in turns:
            if turn < len(of_patient):
                taken.append(of_patient[turn])
                if len(taken) == count:
                    return taken
    return taken
