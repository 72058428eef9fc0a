"""Evidence of slices made by hand: boxes of lesion pixels on a canonical grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.evidence import LesionInstance, SliceEvidence
from covid_ct_mask_net.geometry import CanonicalGrid
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.results import ModelReport

MODEL = ModelReport("small", "1", "0" * 64, "nothing", "a test")
GGO, CONSOLIDATION = LesionClass.GROUND_GLASS_OPACITY, LesionClass.CONSOLIDATION
SHAPE = (40, 30, 12)


def grid(spacing: tuple[float, float, float] = (1.0, 2.0, 5.0)) -> CanonicalGrid:
    """A canonical grid stored as it is: axes L, P, S."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = [20.0, 30.0, -100.0]
    return CanonicalGrid(affine, affine)


def instance(
    index: int,
    rows: tuple[int, int],
    columns: tuple[int, int],
    lesion_class: LesionClass = GGO,
    score: float = 0.9,
) -> LesionInstance:
    """A full box of lesion, rows and columns from the first to before the last."""
    mask = np.ones((rows[1] - rows[0], columns[1] - columns[0]), bool)
    box = (float(columns[0]), float(rows[0]), float(columns[1]), float(rows[1]))
    return LesionInstance(index, lesion_class, score, box, (rows[0], columns[0]), mask)


def rectangle(
    index: int,
    column: int = 6,
    row: int = 8,
    *,
    size: tuple[int, int] = (4, 4),
    lesion_class: LesionClass = GGO,
) -> LesionInstance:
    """`instance` by its upper left corner and its size (rows, columns)."""
    return instance(index, (row, row + size[0]), (column, column + size[1]))


def evidence(
    index: int, *instances: LesionInstance, logits: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> SliceEvidence:
    score = max((one.score for one in instances), default=0.0)
    return SliceEvidence(index, logits, instances, score)


def two_lungs(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint8]:
    """Right lung in columns 2 to 17, left in 22 to 37, rows 5 to 24, slices 0 to 8 right and 3 to 11 left."""
    lungs = np.zeros(shape, np.uint8)
    lungs[2:18, 5:25, 0:9] = 1
    lungs[22:38, 5:25, 3:12] = 2
    return lungs
