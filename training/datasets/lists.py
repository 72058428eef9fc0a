"""Published lists of slices: ``file class xmin ymin xmax ymax`` a line (COVIDx-CT) or the name alone."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.datasets.list_files import list_lines
from covid_ct_mask_net.training.datasets.names import SliceName, parse_slice_name
from covid_ct_mask_net.training.datasets.records import (
    IMAGE_SUFFIXES,
    check_slice_class,
    existing_folder,
    stem_of,
)

Box = tuple[int, int, int, int]


class ClassId(Protocol):
    """Class of a slice: an int with a name for people."""

    @property
    def label(self) -> str:
        """Name for people."""

    def __int__(self) -> int: ...


class Listed(Protocol):
    """What splits need to know of a line of a list, whatever the collection."""

    @property
    def file(self) -> str:
        """Name as listed."""

    @property
    def slice_class(self) -> ClassId | None:
        """Class, if the list tells."""

    @property
    def numbering(self) -> str:
        """Collection that gave out the numbers of patients; those of two collections do not compare."""

    @property
    def patient(self) -> str:
        """Whose slice it is, whatever its class."""

    @property
    def names_patient(self) -> bool:
        """Whether the list tells; otherwise the slice stands for a patient of its own."""

    @property
    def scan(self) -> Hashable:
        """Which scan it is of."""

    @property
    def key(self) -> Hashable:
        """The same for a slice under each of its names."""

    @property
    def file_names(self) -> tuple[str, ...]:
        """What its file may be called, below the folder of images."""

    @property
    def line(self) -> str:
        """The line for another list."""


@dataclass(frozen=True)
class ListedSlice:
    """One line of a list.

    Attributes
    ----------
    file
        Name as listed.
    name
        What it says.
    lung_box
        ``(xmin, ymin, xmax, ymax)`` in pixels where the list has it.
    """

    file: str
    name: SliceName
    lung_box: Box | None = None

    @property
    def slice_class(self) -> SliceClass | None:
        """Class in the name."""
        return self.name.slice_class

    @property
    def numbering(self) -> str:
        """Segmentation names have numbers of their own: patient 7 there is not COVIDx-CT's."""
        return "segmentation" if self.slice_class is None else "COVIDx-CT"

    @property
    def patient(self) -> str:
        """Number of the patient; one number under two classes is one patient."""
        return self.name.patient if self.slice_class is not None else f"segmentation-{self.name.patient}"

    @property
    def names_patient(self) -> bool:
        """Always so."""
        return True

    @property
    def scan(self) -> tuple[str, str]:
        """Patient and number of the scan."""
        return self.patient, self.name.scan

    @property
    def key(self) -> SliceName:
        """What the name says; the original and COVIDx-CT v1 write it differently."""
        return self.name

    @property
    def file_names(self) -> tuple[str, ...]:
        """As listed; then as in COVIDx-CT v1 and the original, or with another suffix (segmentation)."""
        if self.slice_class is not None:
            return self.file, self.name.covidx, self.name.original
        return self.file, *(stem_of(Path(self.file)) + suffix for suffix in IMAGE_SUFFIXES)

    @property
    def line(self) -> str:
        """Name, and class and lung box where the list had the box."""
        values = () if self.lung_box is None else (int(self.name.known_class()), *self.lung_box)
        return " ".join([self.file, *map(str, values)])


def listed_files(listed: Sequence[Listed], folder: Path | str) -> list[Path]:
    """Return the image file of each listed slice, whichever of its names the file has.

    Parameters
    ----------
    listed : sequence of Listed
    folder : path
        Folder of the images; for iCTCF the one with the class folders.

    Raises
    ------
    UsageError
        If there is no such folder.
    RefusedInputError
        If a slice is not there; the sentence names it and says how many are missing.
    """
    top = existing_folder(folder, "images of slices")
    found = [next((top / n for n in one.file_names if (top / n).is_file()), None) for one in listed]
    missing = [one.file for one, path in zip(listed, found, strict=True) if path is None]
    if missing:
        raise RefusedInputError(
            "LIST_MISMATCH",
            f"{missing[0]} is listed, but not in {top} ({len(missing)} of {len(listed)} listed slices are "
            "missing).",
        )
    return [path for path in found if path is not None]


def read_list(path: Path | str) -> list[ListedSlice]:
    """Read a list of slices in the order of its lines; empty lines are skipped.

    Raises
    ------
    UsageError
        If there is no such file.
    RefusedInputError
        If a line cannot be read, a class is unknown or contradicts the name, or a slice is listed twice; the
        sentence names file and line.
    """
    path = Path(path)
    listed: list[ListedSlice] = []
    seen: dict[SliceName, int] = {}
    for number, line in list_lines(path):
        one = _parse(line, f"Line {number} of {path}")
        if one.name in seen:
            raise RefusedInputError(
                "LISTED_TWICE",
                f"Line {number} of {path} lists {one.file} again (first in line {seen[one.name]}).",
            )
        seen[one.name] = number
        listed.append(one)
    return listed


def _parse(line: str, where: str) -> ListedSlice:
    file, *numbers = line.split()
    try:
        name = parse_slice_name(file)
        values = [int(number) for number in numbers]
    except RefusedInputError as error:
        raise RefusedInputError(error.code, f"{where}: {error.sentence}") from error
    except ValueError as error:
        raise RefusedInputError(
            "LIST_FORMAT",
            f"{where} is {line!r}; a name, or a name with class and four box sides, was expected.",
        ) from error
    if len(values) not in (0, 1, 5):
        raise RefusedInputError(
            "LIST_FORMAT",
            f"{where} has {len(values)} numbers after the name; 0, 1 (class) or 5 were expected.",
        )
    if values and check_slice_class(values[0], where) != name.slice_class:
        raise RefusedInputError(
            "CLASS_CONTRADICTED", f"{where} has class {values[0]}, which its name {file} contradicts."
        )
    box = (values[1], values[2], values[3], values[4]) if len(values) == 5 else None
    return ListedSlice(file, name, box)
