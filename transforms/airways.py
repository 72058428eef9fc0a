"""Trachea and main bronchi, so that they do not count as lung."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from covid_ct_mask_net.transforms.morphology import dilated

Mask = NDArray[np.bool_]

_GAS_HU = -880.0
_SMALLEST_MM2, _LARGEST_MM2 = 40.0, 900.0
_FROM_MIDDLE_MM = 45.0
_FILL = 0.45
_LENGTH_MM = 40.0


def find_airways(coarse: NDArray[np.float32], air: Mask, body: Mask, steps: tuple[float, ...]) -> Mask:
    """Return trachea and main bronchi, followed downwards from the neck until they open into the lungs.

    Parameters
    ----------
    coarse : NDArray
        float32 HU, slices [Z, Y, X], inferior to superior.
    air, body : NDArray
        The body, and the air inside of it, same shape.
    steps : tuple of float
        Spacing in mm in the order of the axes.

    Returns
    -------
    NDArray
        bool [Z, Y, X]; empty where no airway was found (the lungs then keep a few ml of it).
    """
    gas = (coarse < _GAS_HU) & air
    pixel_mm2 = steps[1] * steps[2]
    columns = np.flatnonzero(body.any(axis=(0, 1)))
    if not len(columns):
        return np.zeros(air.shape, dtype=bool)
    # Of the body: patients do not always lie in the middle of the image.
    middle = (columns[0] + columns[-1]) / 2.0
    top = air.shape[0] - 1
    # The trachea is in the upper half of a chest CT.
    for start in range(top, top // 2, -max(1, round(10.0 / steps[0]))):
        for seed in _candidates(gas[start], middle, steps):
            run = _follow(gas, start, seed, pixel_mm2)
            if np.count_nonzero(run.any(axis=(1, 2))) * steps[0] >= _LENGTH_MM:
                # The wall and the partial volume at it go with the lumen.
                return dilated(run, (1, 2))
    return np.zeros(air.shape, dtype=bool)


def _candidates(gas: Mask, middle: float, steps: tuple[float, ...]) -> list[Mask]:
    """Return round pockets of gas near the middle column of a slice's body."""
    labels, _ = ndimage.label(gas)
    pixel_mm2 = steps[1] * steps[2]
    found = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        pocket = labels[box] == label
        area = pocket.sum() * pixel_mm2
        centre = (box[1].start + box[1].stop - 1) / 2.0
        if (
            _SMALLEST_MM2 <= area <= _LARGEST_MM2
            and abs(centre - middle) * steps[2] <= _FROM_MIDDLE_MM
            and pocket.mean() >= _FILL
        ):
            found.append(labels == label)
    return found


def _follow(gas: Mask, start: int, seed: Mask, pixel_mm2: float) -> Mask:
    """Follow a pocket upwards and downwards while it stays as small as an airway."""
    run = np.zeros(gas.shape, dtype=bool)
    run[start] = seed
    for direction in (1, -1):
        current, index = seed, start + direction
        while 0 <= index < len(gas):
            labels, _ = ndimage.label(gas[index])
            touched = np.unique(labels[current])
            following = np.zeros(current.shape, dtype=bool)
            for label in touched[touched > 0]:
                part = labels == label
                if part.sum() * pixel_mm2 <= _LARGEST_MM2:
                    following |= part
            if not following.any():
                break
            run[index] = following
            current, index = following, index + direction
    return run
