"""Slices that were damaged: alone, in short runs and at the ends; and volumes in which nothing is damaged."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from builders.chest import make_chest
from covid_ct_mask_net.transforms.implausible_slices import implausible_slices

COUNT = 40
JUMP = 4.0


def anatomy(seed: int, count: int = COUNT, noise: float = 10.0) -> NDArray[np.float32]:
    """Soft shapes that change from slice to slice, with noise; another seed is another patient."""
    generator = np.random.default_rng(seed)
    shapes = ndimage.gaussian_filter(generator.normal(size=(96, 96, count)), (12, 12, 15))
    hu = np.where(shapes > 0, 40.0, -800.0) + generator.normal(0, noise, shapes.shape)
    return hu.astype(np.float32)


def damaged(kind: str, run: list[int]) -> NDArray[np.float32]:
    hu = anatomy(0)
    if kind == "noise":
        hu[..., run] = np.random.default_rng(1).uniform(-1000, 3000, (96, 96, len(run)))
    elif kind == "rescale":
        hu[..., run] += 1024
    else:
        hu[..., run] = anatomy(2)[..., run]
    return hu


@pytest.mark.parametrize("kind", ["noise", "rescale", "patient"])
@pytest.mark.parametrize(
    "run",
    [
        [20],
        [20, 21],
        [20, 21, 22],
        [1],
        [1, 2, 3],
        [36, 37, 38],
        [0],
        [0, 1],
        [0, 1, 2],
        [39],
        [38, 39],
        [37, 38, 39],
    ],
)
def test_damaged_slices_are_found_and_no_others(kind: str, run: list[int]) -> None:
    assert implausible_slices(damaged(kind, run), JUMP) == tuple(run)


def test_several_places_at_once() -> None:
    hu = damaged("rescale", [0, 9, 10, 20, 37, 38, 39])
    hu[..., 30] = -1000
    assert implausible_slices(hu, JUMP) == (0, 9, 10, 20, 30, 37, 38, 39)


def test_of_a_longer_run_of_noise_each_slice_is_found() -> None:
    assert implausible_slices(damaged("noise", [*range(12, 20)]), JUMP) == tuple(range(12, 20))


@pytest.fixture(scope="module")
def chest() -> NDArray[np.float32]:
    return make_chest().hu


@pytest.mark.parametrize("noise", [0.0, 2.0, 40.0, 150.0])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_nothing_is_found_where_nothing_is_damaged(
    noise: float, step: int, chest: NDArray[np.float32]
) -> None:
    assert implausible_slices(anatomy(0, 60, noise)[..., ::step], JUMP) == ()
    hu = chest[..., ::step]
    hu = hu + np.random.default_rng(3).normal(0, noise, hu.shape).astype(np.float32)
    assert implausible_slices(hu, JUMP) == ()


@pytest.mark.parametrize("place", [10, 20, 30])
def test_where_slices_are_missing_none_is_damaged(place: int) -> None:
    whole = anatomy(0, 60)
    assert implausible_slices(np.delete(whole, range(place, place + 15), axis=2), JUMP) == ()


def test_a_multiple_says_how_far_out_of_proportion() -> None:
    hu = anatomy(0)
    hu[..., [20, 21]] += 100
    assert implausible_slices(hu, 2.0) == (20, 21)
    assert implausible_slices(hu, 20.0) == ()


def test_a_few_slices_say_nothing_about_each_other() -> None:
    assert implausible_slices(damaged("noise", [1])[..., :4], JUMP) == ()
