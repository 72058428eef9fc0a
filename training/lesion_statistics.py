"""Lesions of a data set slice by slice (paper, Figure 2): how many of a class, and how much of the slice."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.training.datasets.read import ReadSliced
from covid_ct_mask_net.training.datasets.records import FILE, MASK
from covid_ct_mask_net.training.files import csv_text, read_rows, write_text
from covid_ct_mask_net.training.predictions import MAIN, evaluation_file

_STEM = "lesions"
_COLUMNS = ("file", "class", "instances", "area")
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class SliceLesions:
    """Lesions of one class on one slice.

    Attributes
    ----------
    file
        Name of the slice.
    lesion_class
        Which class.
    instances
        Number of connected lesions, small ones too; 0 where there are none.
    area
        Their pixels as a share of the slice, in [0, 1].
    """

    file: str
    lesion_class: LesionClass
    instances: int
    area: float


def lesions_of(file: str, labels: NDArray[np.integer]) -> list[SliceLesions]:
    """Return the lesions of one slice, one entry a class.

    Parameters
    ----------
    file : str
    labels : (H, W)
        0 background, 1 GGO, 2 consolidation.
    """
    found = []
    for lesion_class in LesionClass:
        inside = labels == lesion_class
        _, instances = ndimage.label(inside, structure=_EIGHT_NEIGHBOURS)
        found.append(SliceLesions(file, lesion_class, int(instances), float(inside.mean())))
    return found


def lesion_statistics(records: Iterable[Mapping[str, Any]]) -> list[SliceLesions]:
    """Return the lesions of all slices of a data set with masks (`datasets`)."""
    read = ReadSliced()
    found: list[SliceLesions] = []
    for record in records:
        # Only the mask is looked at, but both are checked against one another.
        item: dict[Hashable, Any] = dict(record.items())
        labels = np.asarray(read(item)[MASK])[0]
        found += lesions_of(str(record[FILE]), labels)
    return found


def write_lesions(folder: Path, lesions: Sequence[SliceLesions], name: str = MAIN) -> Path:
    """Write the lesions of an evaluation into a run folder: ``lesions.csv``, or ``lesions-NAME.csv``."""
    lines = [list(_COLUMNS)]
    lines += [[one.file, str(int(one.lesion_class)), str(one.instances), repr(one.area)] for one in lesions]
    return write_text(folder / evaluation_file(_STEM, name), csv_text(lines))


def read_lesions(folder: Path, name: str = MAIN) -> list[SliceLesions]:
    """Return the lesions that an evaluation left in its run folder; none if it left no file.

    Raises
    ------
    RefusedInputError
        If a value cannot be read; the sentence names the file.
    """
    path = folder / evaluation_file(_STEM, name)
    if not path.is_file():
        return []
    try:
        return [
            SliceLesions(
                row["file"], LesionClass(int(row["class"])), int(row["instances"]), float(row["area"])
            )
            for row in read_rows(path)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedInputError("LESIONS", f"{path} cannot be read: {error}.") from error
