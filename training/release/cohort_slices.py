"""Slices of a cohort as the detector reads them, with their lesions: some of each patient."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.training.datasets.read import ReadSliced, read_mask
from covid_ct_mask_net.training.datasets.records import (
    IMAGE,
    MASK,
    MASK_VALUES,
    SCAN,
    SLICE,
    VOLUME_SLICE,
    Record,
)
from covid_ct_mask_net.training.datasets.volumes import lesion_volumes

LabelledSlice = tuple[str, str, NDArray[np.float32], NDArray[np.uint8]]


def cohort_records(folder: Path, a_patient: int = 3) -> list[Record]:
    """Return records of slices: of each patient with lesions, evenly spread over those that show some.

    Of the others, slices over the middle half of the scan.

    Parameters
    ----------
    folder : Path
        As ``synthesize --format nifti`` wrote it.
    a_patient : int
        Slices of each patient.

    Raises
    ------
    RefusedInputError
        If the folder holds no scans with masks.
    """
    if not list((folder / "images").glob("*.nii.gz")):
        raise RefusedInputError("NO_COHORT", f"There are no images/*.nii.gz in {folder}.")
    chosen: list[Record] = []
    for _, found in groupby(lesion_volumes(folder / "images", folder / "masks"), lambda one: one[SCAN]):
        records = list(found)
        shows = [one for one in records if _labels(one).any()]
        if not shows:
            quarter = len(records) // 4
            shows = records[quarter : max(quarter + 1, 3 * len(records) // 4)]
        places = np.linspace(0, len(shows) - 1, a_patient + 2).round().astype(int)[1:-1]
        chosen += [shows[place] for place in np.unique(places)]
    return chosen


def cohort_slices(folder: Path, a_patient: int = 3) -> Iterator[LabelledSlice]:
    """Yield name, patient, slice (H, W) in [0, 1] and labels (H, W), rows to posterior, columns to the left.

    Parameters and errors are those of `cohort_records`.
    """
    read = ReadSliced()
    for record in cohort_records(folder, a_patient):
        item = read(dict[Hashable, Any](record.items()))
        patient = str(record[SCAN])
        yield f"{patient}/{record[SLICE]}", patient, item[IMAGE][0].numpy(), item[MASK][0].numpy()


def _labels(record: Record) -> NDArray[np.uint8]:
    return read_mask(Path(record[MASK]), record[MASK_VALUES], record[VOLUME_SLICE])
