"""Canonical volumes, lungs and evidence of known content, small enough to be worked out by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.evidence import LesionInstance, SliceEvidence
from covid_ct_mask_net.geometry import CanonicalGrid
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.results import ModelReport

SHAPE = (40, 30, 12)
MODEL = ModelReport("small", "1", "0" * 64, "nothing", "a test")


def grid(spacing: tuple[float, float, float] = (1.0, 2.0, 5.0)) -> CanonicalGrid:
    """Axes L, P, S; the first voxel lies at LPS (0, 0, 0). The source is the canonical volume itself."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    return CanonicalGrid(affine, affine)


def two_lungs() -> NDArray[np.uint8]:
    """Right lung: columns 4 to 15; left lung: columns 24 to 35; rows 5 to 24, all slices but the two ends."""
    lungs = np.zeros(SHAPE, dtype=np.uint8)
    lungs[4:16, 5:25, 1:11] = 1
    lungs[24:36, 5:25, 1:11] = 2
    return lungs


def instance(
    slice_index: int,
    column: int = 6,
    row: int = 8,
    *,
    size: tuple[int, int] = (4, 4),
    lesion_class: LesionClass = LesionClass.GROUND_GLASS_OPACITY,
    score: float = 0.9,
) -> LesionInstance:
    """A full rectangle of (rows, columns) with its upper left corner at (row, column)."""
    height, width = size
    return LesionInstance(
        slice_index=slice_index,
        lesion_class=lesion_class,
        score=score,
        box=(float(column), float(row), float(column + width), float(row + height)),
        offset=(row, column),
        mask=np.ones(size, dtype=bool),
    )


def evidence(
    slice_index: int,
    *instances: LesionInstance,
    logits: tuple[float, float, float] = (2.0, 0.0, 0.0),
) -> SliceEvidence:
    """Evidence of a slice with these instances."""
    powers = np.exp(logits)
    first, second, third = (powers / powers.sum()).tolist()
    return SliceEvidence(slice_index, logits, (first, second, third), instances)
