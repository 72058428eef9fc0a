"""iCTCF-CT (paper, section 5): slices of two classes, one folder a class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.training.datasets.list_files import list_lines
from covid_ct_mask_net.training.datasets.records import (
    IMAGE_SUFFIXES,
    Record,
    check_slice_class,
    existing_folder,
    make_record,
)


class BinaryClass(IntEnum):
    """The two classes of the collection."""

    NEGATIVE = 0
    COVID_19 = 1

    @property
    def label(self) -> str:
        """Name for people."""
        return "Negative" if self is BinaryClass.NEGATIVE else "COVID-19"


BINARY_CLASS_NAMES = tuple(one.label for one in BinaryClass)
# nCT: negative, pCT: positive; the third folder of the collection, NiCT, shows no lung and is not used.
ICTCF_FOLDERS = {"nCT": 0, "pCT": 1}
_PATIENT = re.compile(r"patient[ _-]*(?P<number>\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class ListedImage:
    """One image of the collection, as splits see it (`datasets.lists.Listed`).

    Attributes
    ----------
    file
        Path below the folder with the class folders.
    slice_class
        That of its folder.
    """

    file: str
    slice_class: BinaryClass

    @property
    def numbering(self) -> str:
        """The collection."""
        return "iCTCF"

    @property
    def patient(self) -> str:
        """``patient-N`` of the path, in both classes the same; the path itself where it names no patient."""
        return _patient(self.file)

    @property
    def names_patient(self) -> bool:
        """Whether the path names a patient."""
        return _PATIENT.search(self.file) is not None

    @property
    def scan(self) -> str:
        """The patient: the collection has one scan each."""
        return self.patient

    @property
    def key(self) -> str:
        """The path."""
        return self.file

    @property
    def file_names(self) -> tuple[str]:
        """The path."""
        return (self.file,)

    @property
    def line(self) -> str:
        """Path and class."""
        return f"{self.file} {int(self.slice_class)}"


def listed_images(source: Path | str) -> list[ListedImage]:
    """Return the images of a list, or all of the folder with ``nCT`` and ``pCT``.

    Raises
    ------
    UsageError
        If there is neither.
    RefusedInputError
        If a line cannot be read, contradicts the class folder, or is there twice; or a class folder is empty.
    """
    path = Path(source)
    if path.is_dir():
        return [ListedImage(file, BinaryClass(one)) for file, one in _images(path, ICTCF_FOLDERS).items()]
    listed = []
    for where, file, slice_class in _lines(path):
        folder = file.partition("/")[0]
        if ICTCF_FOLDERS.get(folder, slice_class) != slice_class:
            raise _contradicted(where, file, slice_class, ICTCF_FOLDERS[folder])
        listed.append(ListedImage(file, BinaryClass(slice_class)))
    return listed


def ictcf_slices(
    root: Path | str, listed: Path | str | None = None, folders: Mapping[str, int] | None = None
) -> list[Record]:
    """Return the data dictionaries of a two-class collection.

    Parameters
    ----------
    root : path
        Folder with one folder a class; images may lie at any depth below.
    listed : path, optional
        List with ``path class`` a line, paths relative to the root; only these slices are taken.
    folders : mapping of str to int, optional
        Name of a class folder to class id; iCTCF's ``nCT`` (0) and ``pCT`` (1) if not given.

    Returns
    -------
    list of dict
        ``patient`` is the "Patient N" of a folder or name. Where there is none, each image counts as a
        patient of its own and intervals are then those of independent images.

    Raises
    ------
    RefusedInputError
        If a class folder is missing or empty, or the list does not match the folder.
    """
    top = existing_folder(root, "one folder a class")
    classes = dict(ICTCF_FOLDERS if folders is None else folders)
    paths = _images(top, classes)
    if listed is not None:
        paths = _listed(Path(listed), paths, top)
    return [_record(top, file, slice_class) for file, slice_class in paths.items()]


def _images(top: Path, classes: Mapping[str, int]) -> dict[str, int]:
    """Return the class of every image by its path below the root."""
    paths: dict[str, int] = {}
    for name, slice_class in classes.items():
        folder = existing_folder(top / name, f"slices of class {slice_class}")
        found = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
        if not found:
            raise RefusedInputError("FOLDER_EMPTY", f"There are no images in {folder}.")
        paths |= {path.relative_to(top).as_posix(): slice_class for path in found}
    return paths


def _listed(path: Path, paths: Mapping[str, int], top: Path) -> dict[str, int]:
    wanted: dict[str, int] = {}
    for where, file, slice_class in _lines(path):
        if file not in paths:
            raise RefusedInputError("LIST_MISMATCH", f"{where} lists {file}, which is not in {top}.")
        if paths[file] != slice_class:
            raise _contradicted(where, file, slice_class, paths[file])
        wanted[file] = slice_class
    return wanted


def _lines(path: Path) -> Iterator[tuple[str, str, int]]:
    """Yield (line of the list for people, path below the root, class)."""
    first: dict[str, int] = {}
    for number, line in list_lines(path):
        # Folder names of this collection hold blanks.
        file, _, text = line.strip().rpartition(" ")
        where = f"Line {number} of {path}"
        if not file or not text.isdigit():
            raise RefusedInputError("LIST_FORMAT", f"{where} is {line!r}; a path and a class were expected.")
        if first.setdefault(file, number) != number:
            raise RefusedInputError(
                "LISTED_TWICE", f"{where} lists {file} again (first in line {first[file]})."
            )
        yield where, file, check_slice_class(int(text), where, BINARY_CLASS_NAMES)


def _contradicted(where: str, file: str, slice_class: int, folder_class: int) -> RefusedInputError:
    return RefusedInputError(
        "CLASS_CONTRADICTED", f"{where} gives {file} class {slice_class}; its folder has {folder_class}."
    )


def _patient(file: str) -> str:
    match = _PATIENT.search(file)
    return f"patient-{match['number']}" if match else file


def _record(top: Path, file: str, slice_class: int) -> Record:
    path = top / file
    patient = _patient(file)
    number = re.findall(r"\d+", path.stem)
    return make_record(
        path,
        patient=patient,
        scan=patient,
        slice_index=int(number[-1]) if number else 0,
        slice_class=slice_class,
        file=file,
    )
