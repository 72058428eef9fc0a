from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.transforms.blank_slices import blank_slices, fill_inside, shown_range


def noise(dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(50, 10, (16, 12, 8)).astype(dtype)


@pytest.mark.parametrize("value", [0.0, -1024.0, 400.0])
def test_slices_of_one_value_are_blank_wherever_they_lie(value: float) -> None:
    hu = noise()
    assert blank_slices(hu) == ()
    hu[:, :, [0, 3, 4, 7]] = value
    assert blank_slices(hu) == (0, 3, 4, 7)
    hu[1, 2, 3] = value + 1
    assert blank_slices(hu) == ((0, 3, 4, 7) if value == -1024.0 else (0, 4, 7))


def test_padding_around_a_blank_image_shows_nothing_either() -> None:
    hu = noise()
    hu[:, :, 3] = 0.0
    hu[:4, :, :] = -1024.0
    assert blank_slices(hu) == (3,)


def test_what_lies_between_blank_ends_is_shown() -> None:
    assert shown_range((), 8) == slice(0, 8)
    assert shown_range((0, 1, 4, 7), 8) == slice(2, 7)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_only_blank_slices_inside_are_filled_by_their_neighbours(dtype: type) -> None:
    hu = noise(dtype)
    hu[:, :, [0, 3, 4]] = 0
    before = hu.copy()
    assert fill_inside(hu, blank_slices(hu)) == (3, 4)
    low, high = before[:, :, 2].astype(float), before[:, :, 5].astype(float)
    np.testing.assert_allclose(hu[:, :, 3], (2 * low + high) / 3, atol=0.51)
    np.testing.assert_allclose(hu[:, :, 4], (low + 2 * high) / 3, atol=0.51)
    untouched = [0, 1, 2, 5, 6, 7]
    np.testing.assert_array_equal(hu[:, :, untouched], before[:, :, untouched])
