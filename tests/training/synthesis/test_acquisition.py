from __future__ import annotations

import numpy as np

from covid_ct_mask_net.training.synthesis.acquisition import Acquisition, acquire
from covid_ct_mask_net.training.synthesis.phantom import Chest

STILL = Acquisition("B40f", sharp=False, blur_mm=0.5, noise_hu=10.0, motion_mm=0.0)


def _scan(chest: Chest, how: Acquisition) -> np.ndarray:
    return acquire(chest.hu, chest.lungs, chest.grid, how, np.random.default_rng(1))


def test_noise_has_the_asked_strength_and_texture(chest: Chest) -> None:
    flat = np.full_like(chest.hu, 0.0)
    soft = acquire(flat, chest.lungs, chest.grid, STILL, np.random.default_rng(0))
    sharp = acquire(
        flat, chest.lungs, chest.grid, Acquisition("B70f", True, 0.5, 10.0, 0.0), np.random.default_rng(0)
    )
    for scanned in (soft, sharp):
        assert 8 < scanned.std() < 12

    def neighbours(v: np.ndarray) -> float:
        return float(np.corrcoef(v[:, :, :-1].ravel(), v[:, :, 1:].ravel())[0, 1])

    assert neighbours(soft) > neighbours(sharp) + 0.3


def test_values_are_whole_hounsfield_units(chest: Chest) -> None:
    scanned = _scan(chest, STILL)
    assert np.array_equal(scanned, np.rint(scanned))
    assert scanned.min() >= -1024
    assert abs(float((scanned - chest.hu)[chest.lungs > 0].mean())) < 25


def test_motion_changes_the_heart_border_only(chest: Chest) -> None:
    moving = Acquisition("B40f", sharp=False, blur_mm=0.5, noise_hu=10.0, motion_mm=5.0)
    change = np.abs(_scan(chest, moving) - _scan(chest, STILL)).max(axis=0)
    y, x = chest.grid.axis(1), chest.grid.axis(2)
    assert change[np.ix_(np.abs(y + 30) < 40, np.abs(x - 50) < 40)].max() > 100
    assert change[:, x < -80].max() < 20
