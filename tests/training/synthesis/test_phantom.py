from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.training.synthesis.acquisition import acquire, draw_acquisition
from covid_ct_mask_net.training.synthesis.phantom import Chest, Mimics, draw_chest, draw_mimics, smooth_noise
from covid_ct_mask_net.transforms.lungs import segment_lungs


@pytest.mark.parametrize("seed", [1, 2])
def test_classical_lungs_are_found_in_phantoms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chest = draw_chest(rng, 160, 10.0)
    hu = acquire(chest.hu, chest.lungs, chest.grid, draw_acquisition(rng), rng)
    found = segment_lungs(np.ascontiguousarray(hu.transpose(2, 1, 0)), chest.grid.ras_affine)
    found = found.transpose(2, 1, 0)
    total = 0.0
    for side in (1, 2):
        truth, ours = chest.lungs == side, found == side
        assert 2 * np.count_nonzero(truth & ours) / (truth.sum() + ours.sum()) > 0.93
        total += ours.sum() * chest.grid.voxel_ml
    assert 2000 < total < 8000


def test_same_seed_same_chest() -> None:
    first, second = (draw_chest(np.random.default_rng(8), 64, 30.0) for _ in range(2))
    assert np.array_equal(first.hu, second.hu)
    assert np.array_equal(first.lungs, second.lungs)
    assert not np.array_equal(first.hu, draw_chest(np.random.default_rng(9), 64, 30.0).hu[: len(first.hu)])


def test_lungs_hold_vessels_and_open_bronchi(chest: Chest) -> None:
    inside = chest.hu[chest.lungs > 0]
    assert 0.01 < (inside > -500).mean() < 0.25
    assert np.median(inside) < -750
    assert chest.airways is not None
    assert chest.airways.max() > 0.6
    assert chest.hu[chest.airways > 0.55].mean() < -550


def test_mimics_vary() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_mimics(rng) for _ in range(60)]
    assert all(isinstance(one, Mimics) for one in drawn)
    assert 0 < sum(one.bands > 0 for one in drawn) < 60
    assert 0 < sum(one.dependent_hu > 0 for one in drawn) < 60


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.2, 4, 24), (1.0, 60, 60)])
def test_as_many_chests_have_emphysema_as_is_asked(share: float, least: int, most: int) -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_mimics(rng, share).emphysema for _ in range(60)]
    assert least <= sum(one > 0 for one in drawn) <= most


def test_emphysema_empties_its_share_of_the_lungs() -> None:
    without, with_it = (
        draw_chest(np.random.default_rng(8), 64, 30.0, emphysema_share=share) for share in (0.0, 1.0)
    )
    assert without.emphysema == 0.0
    assert np.array_equal(without.lungs, with_it.lungs)
    emptied = with_it.hu[with_it.lungs > 0] < without.hu[without.lungs > 0] - 20
    assert abs(float(emptied.mean()) - with_it.emphysema) < 0.1


def test_smooth_noise_is_smooth_and_normal() -> None:
    noise = smooth_noise((20, 40, 40), (1, 10, 10), np.random.default_rng(0))
    assert abs(float(noise.mean())) < 1e-3
    assert np.isclose(noise.std(), 1, atol=1e-3)
    neighbours = np.corrcoef(noise[:, :, :-1].ravel(), noise[:, :, 1:].ravel())[0, 1]
    assert neighbours > 0.9
