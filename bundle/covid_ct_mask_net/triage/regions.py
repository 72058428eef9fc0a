"""Sides and thirds of the lungs: where a voxel of the canonical volume belongs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.labels import Side, Zone

SIDE_VALUES: Mapping[Side, int] = {Side.RIGHT: 1, Side.LEFT: 2}
"""Values of the lung mask."""


class LungRegions:
    """The lungs of a volume, with their sides and the thirds of each one's height.

    Parameters
    ----------
    lungs : NDArray
        uint8 [X, Y, Z], canonical: 1 right lung, 2 left lung.
    """

    def __init__(self, lungs: NDArray[np.uint8]) -> None:
        self.lungs = lungs
        # Slice by slice: a volume may be as large as memory allows.
        self._columns = {value: np.zeros(lungs.shape[0], dtype=np.int64) for value in SIDE_VALUES.values()}
        present = {side: np.zeros(lungs.shape[2], dtype=bool) for side in SIDE_VALUES}
        for index, plane in enumerate(lungs.transpose(2, 1, 0)):
            for side, value in SIDE_VALUES.items():
                columns = (plane == value).any(axis=0)
                self._columns[value] += columns
                present[side][index] = columns.any()
        self._bounds = {side: _thirds(slices) for side, slices in present.items()}

    @property
    def sides(self) -> tuple[Side, ...]:
        """Lungs that are in the volume."""
        return tuple(side for side, bounds in self._bounds.items() if bounds is not None)

    def zone_of(self, side: Side, slice_index: float) -> Zone:
        """Return the third of a lung that a slice index falls into; beyond its ends the nearest."""
        bounds = self._bounds[side]
        if bounds is None or slice_index < bounds[0]:
            return Zone.LOWER
        return Zone.MIDDLE if slice_index < bounds[1] else Zone.UPPER

    def zone_slices(self, side: Side, zone: Zone) -> slice:
        """Return the slice indices of a third of a lung, with open ends."""
        middle, upper = self._bounds[side] or (0, 0)
        if zone is Zone.LOWER:
            return slice(0, middle)
        return slice(middle, upper) if zone is Zone.MIDDLE else slice(upper, None)

    def side_values(self, voxels: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the side value (1 right, 2 left) of voxels [i, j, k] (n, 3).

        A voxel inside a lung has that lung's side. Outside (dense lesions may be cut from the mask) it is
        the side of the plane between the lungs; the first index grows to the patient's left.
        """
        sides: NDArray[np.uint8] = self.lungs[voxels[:, 0], voxels[:, 1], voxels[:, 2]].copy()
        outside = sides == 0
        right, left = SIDE_VALUES[Side.RIGHT], SIDE_VALUES[Side.LEFT]
        sides[outside] = np.where(voxels[outside, 0] < self._midline(), right, left)
        return sides

    def _midline(self) -> float:
        index = np.arange(self.lungs.shape[0])
        centres = [float((n * index).sum() / n.sum()) for n in self._columns.values() if n.sum()]
        # With one lung alone, or none, the middle of the image is the best guess.
        return sum(centres) / 2 if len(centres) == 2 else self.lungs.shape[0] / 2


def _thirds(present: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Return where the middle and the upper third begin, or None without any slice."""
    indices = np.flatnonzero(present)
    if not len(indices):
        return None
    first, height = int(indices[0]), int(indices[-1]) + 1 - int(indices[0])
    return first + round(height / 3), first + round(2 * height / 3)
