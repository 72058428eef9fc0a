"""NIfTI volumes made for tests."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from builders.dicom import phantom_hu

# Makes the lungs of the phantom larger than 500 ml, the least that a chest CT must show.
SPACING_MM = (3.5, 3.5, 8.0)


def make_ct_volume(path: Path, shape: tuple[int, int, int] = (20, 80, 64)) -> Path:
    """Write the phantom of `phantom_hu`, shape (slices, rows, columns), as a NIfTI volume in HU."""
    # Columns run to the left and rows to posterior; NIfTI counts to the right and to anterior.
    affine = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
    nibabel.Nifti1Image(phantom_hu(shape).transpose(2, 1, 0), affine).to_filename(path)
    return path
