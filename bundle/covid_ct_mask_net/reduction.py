"""Volumes whose slices are too large for memory are averaged in the plane; no slice is ever left out.

For a network that reads 320 or 512 pixels, a slice of 1,024 x 1,024 holds no more than one of 512 x 512.
What was found is given back in pixels of the source: the affines of both grids say where each voxel lies,
and label maps are enlarged to the matrix of the source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.geometry import canonical_axes
from covid_ct_mask_net.results import Reason

LOWEST_HU, HIGHEST_HU = -1024, 3071
# From here on values are padding of unsigned pixels, as 63536 for -2000: nothing in a body is that dense.
PADDING_HU = 30000.0
# Entry of the meta data of a volume that was reduced.
FULL_GRID = "full_grid"
_SHORT = np.iinfo(np.int16)


@dataclass(frozen=True)
class ReductionRule:
    """When the slices of a volume are reduced, and how far.

    Attributes
    ----------
    voxels
        Volumes with more voxels are reduced.
    side
        The longer side of a slice keeps at least this many pixels.
    """

    voxels: int = 600_000_000
    side: int = 384

    def factor(self, rows: int, columns: int, slices: int) -> int:
        """Return the side of the blocks of pixels that become one; 1 for a volume that is kept as it is.

        The smallest whole number that brings the volume to ``voxels``, as far as ``side`` allows.
        """
        wanted = math.ceil(math.sqrt(rows * columns * slices / max(self.voxels, 1)))
        return max(1, min(wanted, max(rows, columns) // max(self.side, 1)))


@dataclass(frozen=True, eq=False)
class FullGrid:
    """The grid in the files, of a volume that was reduced.

    Attributes
    ----------
    affine
        float64 (4, 4): voxel of the files to RAS mm.
    shape
        Voxels along each axis.
    factors
        Voxels that became one, along each axis.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    factors: tuple[int, int, int]


def reduced_side(pixels: int, factor: int) -> int:
    """Return how many blocks cover a side; the last one may reach beyond it."""
    return -(-pixels // factor)


def reduced(planes: NDArray, factors: Sequence[int]) -> NDArray[np.int16]:
    """Return block means of HU, rounded to whole HU.

    Padding becomes air and values are clipped to the scale first: an average would smear them into the body.

    Parameters
    ----------
    planes : NDArray
        HU, finite, any number of axes.
    factors : sequence of int
        Length of a block along each axis. Blocks that reach beyond the end repeat the last voxel.
    """
    hu = np.where(planes >= PADDING_HU, np.float32(LOWEST_HU), planes).astype(np.float32, copy=False)
    hu = hu.clip(LOWEST_HU, HIGHEST_HU)
    beyond = [(0, -size % factor) for size, factor in zip(hu.shape, factors, strict=True)]
    if any(end for _, end in beyond):
        hu = np.pad(hu, beyond, mode="edge")
    split = [n for size, factor in zip(hu.shape, factors, strict=True) for n in (size // factor, factor)]
    blocks = hu.reshape(split).mean(axis=tuple(range(1, len(split), 2)), dtype=np.float32)
    return np.rint(blocks).astype(np.int16)


def whole_numbers(hu: NDArray) -> NDArray[np.int16]:
    """Return HU that are whole numbers as int16; beyond its range they stay beyond every HU."""
    return hu.clip(_SHORT.min, _SHORT.max).astype(np.int16)


def reduced_affine(affine: NDArray[np.float64], factors: Sequence[int]) -> NDArray[np.float64]:
    """Return the affine of the reduced grid: a block lies where the middle of its voxels does."""
    change = np.eye(4)
    for axis, factor in enumerate(factors):
        change[axis, axis] = factor
        change[axis, 3] = (factor - 1) / 2.0
    moved: NDArray[np.float64] = affine @ change
    return moved


def upright_signs(affine: NDArray[np.float64]) -> tuple[int, int, int]:
    """Return the steps along the axes of a reduced volume's memory, for it to be canonical as it is filled.

    Turned around later, it would be in memory twice. Axes in another order are left as they are.
    """
    order, signs = canonical_axes(affine)
    return signs if order == (0, 1, 2) else (1, 1, 1)


def enlarged(labels: NDArray, factors: Sequence[int], shape: Sequence[int]) -> NDArray:
    """Return labels of reduced voxels on the source grid: each block gets the label of its voxel."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            labels = labels.repeat(factor, axis=axis)
    return labels[tuple(slice(0, size) for size in shape)]


def reduction_warning(shape: Sequence[int], factor: int, pixels_mm: Sequence[float]) -> Reason:
    """Return what a reader of the result should know.

    Parameters
    ----------
    shape : sequence of int
        Columns, rows and slices of the source.
    factor : int
        Side of the blocks.
    pixels_mm : sequence of float
        Distance between reduced pixels along columns and rows.
    """
    columns, rows, slices = shape
    return Reason(
        "MATRIX_REDUCED",
        f"The {slices} slices of {columns} x {rows} pixels are more than memory is meant to hold "
        f"(reduce_voxels): each was averaged in blocks of {factor} x {factor} pixels to "
        f"{reduced_side(columns, factor)} x {reduced_side(rows, factor)} of "
        f"{pixels_mm[0]:.2f} x {pixels_mm[1]:.2f} mm. No slice was left out; "
        f"lesions have steps of {factor} pixels and finer detail was not seen.",
    )
