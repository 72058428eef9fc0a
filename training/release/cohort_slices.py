"""Slices of a cohort as the detector reads them, with their lesions: some of each patient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import RefusedInputError

# The lung window of inference.yaml.
_LEVEL, _WIDTH = -600.0, 1500.0

LabelledSlice = tuple[str, str, NDArray[np.float32], NDArray[np.uint8]]


def cohort_slices(folder: Path, a_patient: int = 3) -> Iterator[LabelledSlice]:
    """Yield name, patient, slice (H, W) in [0, 1] and labels (H, W), rows to posterior, columns to the left.

    Of each patient with lesions, slices evenly spread over those that show some; of the others, over the
    middle half of the scan.

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
    images = sorted((folder / "images").glob("*.nii.gz"))
    if not images:
        raise RefusedInputError("NO_COHORT", f"There are no images/*.nii.gz in {folder}.")
    for path in images:
        patient = path.name.removesuffix(".nii.gz")
        hu = np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj)
        labels = np.asarray(nibabel.Nifti1Image.from_filename(folder / "masks" / path.name).dataobj)
        shows = np.flatnonzero(labels.any(axis=(0, 1)))
        if not len(shows):
            shows = np.arange(hu.shape[2] // 4, max(hu.shape[2] // 4 + 1, 3 * hu.shape[2] // 4))
        for place in np.unique(np.linspace(0, len(shows) - 1, a_patient + 2).round().astype(int)[1:-1]):
            z = int(shows[place])
            low = _LEVEL - _WIDTH / 2
            image = np.clip((hu[:, :, z].T.astype(np.float32) - low) / _WIDTH, 0, 1)
            yield f"{patient}/{z}", patient, image, labels[:, :, z].T.astype(np.uint8)
