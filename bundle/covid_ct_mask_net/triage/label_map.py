"""Lesion instances of all slices as one label volume."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.evidence import LesionInstance


def label_map(instances: Iterable[LesionInstance], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the lesion class of each voxel: 0, 1 ground-glass opacity, 2 consolidation.

    Where instances overlap, the one with the higher score holds the voxel; between equal scores, the class
    with the higher id. The order of the instances has no influence.

    Parameters
    ----------
    instances : iterable of LesionInstance
        Of any slices.
    shape : (int, int, int)
        Of the canonical volume [X, Y, Z]: columns, rows, slices of the display slices.

    Returns
    -------
    NDArray
        uint8, shape [X, Y, Z]; slices are contiguous in memory.
    """
    labels = np.zeros(shape[::-1], dtype=np.uint8)
    for instance in sorted(instances, key=_rank):
        labels[instance_region(instance)][instance.mask] = instance.lesion_class
    return labels.transpose(2, 1, 0)


def instance_region(instance: LesionInstance) -> tuple[int, slice, slice]:
    """Return where the mask of an instance lies in a volume of slices [Z, Y, X]."""
    row, column = instance.offset
    height, width = instance.mask.shape
    return instance.slice_index, slice(row, row + height), slice(column, column + width)


def _rank(instance: LesionInstance) -> tuple[float, int, int, tuple[float, ...]]:
    return instance.score, int(instance.lesion_class), instance.slice_index, instance.box
