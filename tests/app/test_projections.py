from __future__ import annotations

import numpy as np

from builders.evidence import SHAPE, grid, two_lungs
from covid_ct_mask_net.app.overlays import LESION_COLOURS
from covid_ct_mask_net.app.projections import coronal, sagittal
from covid_ct_mask_net.labels import LesionClass


def labelled() -> np.ndarray:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[26:34, 20:25, 9:11] = LesionClass.CONSOLIDATION  # left, posterior, superior
    return labels


def middle(picture: np.ndarray) -> tuple[float, float]:
    colour = np.array(LESION_COLOURS[LesionClass.CONSOLIDATION])
    rows, columns = np.nonzero((picture == colour).all(axis=2))
    return rows.mean() / picture.shape[0], columns.mean() / picture.shape[1]


def test_from_the_front_the_left_side_is_on_the_right_and_the_head_is_up() -> None:
    picture = coronal(two_lungs(), labelled(), grid().affine, height=120)
    assert picture.shape[0] == 120
    row, column = middle(picture)
    assert row < 0.4
    assert column > 0.6


def test_from_the_side_the_back_is_on_the_right() -> None:
    row, column = middle(sagittal(two_lungs(), labelled(), grid().affine, height=120))
    assert row < 0.4
    assert column > 0.6
