"""Are the lungs wholly in the plane of the picture? The edge of the field of view, and one side only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

# Scanners fill what lies outside of the circle of reconstruction with the lowest value.
_PADDING_HU = -1024.0
_TISSUE_HU = -400.0
# What touches the edge may end this far from it: the outline of the lungs is worked out on about 2 mm.
_REACH_MM = 3.0
# Slices looked at; the edge of the field of view is the same on all of them.
_SLICES = 24
# Two lungs are wider than deep, one is not.
_LEAST_WIDTH = 0.85
_TISSUE_SHARE = 0.8
# A circle drawn in pixels fills its share of the square around it to this.
_ROUNDNESS = 0.03


@dataclass(frozen=True)
class SideCut:
    """How much of the lungs lies beside the picture.

    Attributes
    ----------
    share
        Share of the outline of the lungs, in the plane, that lies on the edge of the field of view.
    one_side
        The field of view ends in the middle of the chest: one lung is there, and tissue at the edge beside.
    """

    share: float
    one_side: bool


def side_cut(
    hu: NDArray[np.float32], lungs: NDArray[np.uint8], spacing: tuple[float, float, float]
) -> SideCut:
    """Return how much of the lungs the field of view cuts off.

    Parameters
    ----------
    hu : NDArray
        Canonical HU [X, Y, Z], clipped to the HU scale.
    lungs : NDArray
        Lung mask of the same shape, not empty.
    spacing : (float, float, float)
        Of the voxels, mm.
    """
    # Slices first, as they lie in memory: the other way is many times slower.
    planes = lungs.transpose(2, 1, 0)[:: max(1, hu.shape[2] // _SLICES)]
    areas = np.count_nonzero(planes.reshape(len(planes), -1), axis=1)
    largest = int(areas.argmax()) * max(1, hu.shape[2] // _SLICES)
    seen = field_of_view(hu)
    return SideCut(
        share=_edge_share(planes.astype(bool), seen, spacing),
        one_side=_one_side(hu[:, :, largest].T, np.asarray(planes.any(axis=0)), seen, spacing),
    )


def field_of_view(hu: NDArray[np.float32]) -> Mask:
    """Return the pixels [Y, X] that hold anything but padding on some slice."""
    planes = hu.transpose(2, 1, 0)[:: max(1, hu.shape[2] // _SLICES)]
    seen: Mask = ndimage.binary_fill_holes((planes > _PADDING_HU).any(axis=0))
    return seen


def circle_of_reconstruction(hu: NDArray[np.float32], spacing: tuple[float, float, float]) -> Mask | None:
    """Return the field of view [Y, X] if it is a circle inside the image, else None."""
    seen = field_of_view(hu)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return None
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    filled = float(np.count_nonzero(seen)) / (np.pi / 4.0 * height * width)
    ratio = float(height * spacing[1] / (width * spacing[0]))
    return seen if max(abs(filled - 1.0), abs(ratio - 1.0)) <= _ROUNDNESS else None


def _edge_share(lungs: Mask, seen: Mask, spacing: tuple[float, float, float]) -> float:
    reach = [max(1, round(_REACH_MM / spacing[axis])) for axis in (1, 0)]
    window = np.ones([2 * r + 1 for r in reach], dtype=bool)
    # Outside of the image nothing is seen.
    edge = seen & ~ndimage.binary_erosion(seen, structure=window)
    on_edge = int(np.count_nonzero(lungs & edge))
    if on_edge == 0:
        return 0.0
    # The outline is as thick as the edge, so that their pixels can be compared.
    inner = ndimage.binary_erosion(lungs, structure=window[None], border_value=1)
    return on_edge / (int(np.count_nonzero(lungs & ~inner)) + on_edge)


def _one_side(
    plane: NDArray[np.float32], shadow: Mask, seen: Mask, spacing: tuple[float, float, float]
) -> bool:
    rows, columns = np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))
    depth = (rows[-1] - rows[0] + 1) * spacing[1]
    width = (columns[-1] - columns[0] + 1) * spacing[0]
    if width >= _LEAST_WIDTH * depth:
        return False
    beside = np.flatnonzero(seen.any(axis=0))
    reach = max(1, round(_REACH_MM / spacing[0]))
    edges = (slice(beside[0], beside[0] + reach), slice(beside[-1] + 1 - reach, beside[-1] + 1))
    return any(
        float((plane[rows[0] : rows[-1] + 1, edge] > _TISSUE_HU).mean()) >= _TISSUE_SHARE for edge in edges
    )
