"""Grids of synthetic volumes: arrays [Z, Y, X] with axes to superior, posterior and the patient's left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie.

    Attributes
    ----------
    shape
        (slices, rows, columns).
    spacing
        mm between slices, rows and columns.
    origin
        LPS position in mm of the centre of voxel [0, 0, 0] as (z, y, x).
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]

    def axis(self, index: int) -> NDArray[np.float32]:
        """Return the LPS positions in mm of the voxel centres along an axis (0 z, 1 y, 2 x)."""
        steps = np.arange(self.shape[index], dtype=np.float64) * self.spacing[index]
        return (self.origin[index] + steps).astype(np.float32)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def ras_affine(self) -> NDArray[np.float64]:
        """float64 (4, 4): voxel [x, y, z] to RAS mm, for NIfTI files of the transposed array."""
        dz, dy, dx = self.spacing
        z, y, x = self.origin
        return np.array([[-dx, 0, 0, -x], [0, -dy, 0, -y], [0, 0, dz, z], [0, 0, 0, 1]], dtype=np.float64)


def axial_grid(size: int, field_mm: float, low_mm: float, high_mm: float, step_mm: float) -> Grid:
    """Return a square grid about the z axis, slices from ``low_mm`` up to ``high_mm``."""
    pixel = field_mm / size
    start = -field_mm / 2 + pixel / 2
    slices = max(1, int((high_mm - low_mm) / step_mm) + 1)
    return Grid((slices, size, size), (step_mm, pixel, pixel), (low_mm, start, start))
