"""Dense opacities come back into the lungs, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from builders.chest import LEFT, RIGHT, Chest, ball, box, ellipsoid, make_chest
from covid_ct_mask_net.transforms.opacities import enclosed_opacities, wall_opacities

STEPS = (5.0, 2.0, 2.0)


def _aerated(chest: Chest) -> NDArray[np.uint8]:
    """Lung without its opacities, [Z, Y, X]."""
    return np.where(chest.opacities, 0, chest.lungs).transpose(2, 1, 0).astype(np.uint8)


def _at_the_wall(chest: Chest) -> NDArray[np.uint8]:
    coarse = np.ascontiguousarray(chest.hu.transpose(2, 1, 0))
    return wall_opacities(_aerated(chest), coarse, STEPS).transpose(2, 1, 0)


@pytest.mark.parametrize(
    ("solid", "least"),
    [
        (ellipsoid(-132, 10, 120, 35, 35, 40), 0.8),
        (ellipsoid(130, 10, 120, 35, 35, 40), 0.8),
        (ball(-75, 70, 140, 32), 0.7),
        (box((-200, 200), (54, 200), (60, 150)), 0.8),
        (box((-200, -20), (30, 200), (70, 150)), 0.5),
    ],
    ids=["right wedge", "left wedge", "at the back", "the back of both lungs", "a third of a lung"],
)
def test_consolidation_at_the_chest_wall_is_lung(solid, least: float) -> None:  # type: ignore[no-untyped-def]
    """Up to 350 ml: far wider than what closing takes in."""
    chest = make_chest(consolidations=[solid])
    found = _at_the_wall(chest)
    assert np.count_nonzero((found > 0) & chest.opacities) >= least * np.count_nonzero(chest.opacities)
    # Each side gets its own, and little beyond the lungs is taken.
    assert np.array_equal(found[(found > 0) & chest.opacities], chest.lungs[(found > 0) & chest.opacities])
    assert chest.ml((found > 0) & (chest.lungs == 0)) <= 0.2 * chest.ml(chest.opacities)


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"noise": 50.0},
        {"joined": True},
        {"bottom": 60.0},
        {"shift": (40.0, 0.0)},
        {"without_lung": LEFT},
        {"without_lung": RIGHT},
    ],
)
def test_a_clear_chest_gains_nothing(properties: dict) -> None:
    """Heart, liver, spine, muscles and the mediastinum stay outside."""
    chest = make_chest(**properties)
    assert chest.ml(_at_the_wall(chest) > 0) <= 2.0


def test_without_lungs_there_is_nothing_to_add() -> None:
    empty = np.zeros((6, 8, 9), np.uint8)
    assert not wall_opacities(empty, np.full(empty.shape, 40.0, np.float32), STEPS).any()
    assert not enclosed_opacities(empty > 0).any()


def test_tissue_with_lung_on_all_sides_is_lung() -> None:
    lung = np.zeros((30, 40, 40), bool)
    lung[3:27, 4:36, 4:36] = True
    mass = np.zeros_like(lung)
    mass[9:20, 10:26, 12:30] = True
    lung &= ~mass
    # A vessel leads into it from outside.
    lung[14:16, 17:19, 0:12] = False
    found = enclosed_opacities(lung)
    # Its corners are left to closing.
    assert (found & mass).sum() >= 0.85 * mass.sum()
    assert not (found & lung).any()


@pytest.mark.parametrize(
    "opening", [(slice(9, 20), slice(10, 26), slice(28, 40)), (slice(0, 12), slice(12, 24), slice(14, 26))]
)
def test_tissue_that_is_open_to_the_outside_is_not(opening: tuple[slice, slice, slice]) -> None:
    """Heart and liver: towards the body, or through the end of the scan."""
    lung = np.zeros((30, 40, 40), bool)
    lung[0:27, 4:36, 4:36] = True
    lung[9:20, 10:26, 12:30] = False
    lung[opening] = False
    assert not enclosed_opacities(lung).any()


def test_small_vessels_are_left_to_closing() -> None:
    lung = np.ones((20, 20, 20), bool)
    lung[10, 5:15, 10] = False
    assert not enclosed_opacities(lung).any()
