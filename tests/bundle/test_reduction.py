"""Slices that are too large for memory: how far they are reduced, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.reduction import (
    ReductionRule,
    enlarged,
    reduced,
    reduced_affine,
    reduced_side,
    reduction_warning,
    whole_numbers,
)


@pytest.mark.parametrize(
    ("shape", "factor"),
    [
        ((1024, 1024, 2000), 2),
        ((512, 512, 3000), 1),
        ((768, 768, 1000), 1),
        ((768, 768, 2000), 2),
        ((1024, 1024, 572), 1),
        ((1024, 1024, 573), 2),
        ((1024, 1024, 3000), 2),
        ((2048, 2048, 1000), 3),
        ((2048, 512, 3000), 3),
    ],
)
def test_no_further_than_needed_and_never_below_the_least_side(
    shape: tuple[int, int, int], factor: int
) -> None:
    rule = ReductionRule()
    assert rule.factor(*shape) == factor
    assert factor == 1 or max(shape[:2]) / factor >= rule.side


def test_means_of_blocks_in_whole_hu() -> None:
    plane = np.array([[0.0, 1.0, -700.0], [2.0, 4.0, -701.0], [10.0, 10.0, 50.0]], dtype=np.float32)
    found = reduced(plane, (2, 2))
    assert found.dtype == np.int16
    # 1.75; -700.5 goes to the even number; the last blocks repeat what there is.
    assert found.tolist() == [[2, -700], [10, 50]]


def test_padding_is_air_before_it_is_averaged() -> None:
    plane = np.array([[-2000.0, 0.0], [63536.0, 5000.0]], dtype=np.float32)
    assert reduced(plane, (2, 2)).tolist() == [[round((-1024 + 0 - 1024 + 3071) / 4)]]


def test_a_constant_slice_and_its_sides_stay() -> None:
    """Left stays left: what is bright at the first column is bright at the first column."""
    plane = np.full((10, 14), -800.0, dtype=np.float32)
    plane[:4, :2] = 300.0
    small = reduced(plane, (2, 2))
    assert small.shape == (5, 7)
    assert (small[:2, 0] == 300).all()
    assert (small == 300).sum() == 2


def test_three_axes_for_files_that_store_slices_another_way() -> None:
    volume = np.arange(4 * 3 * 2, dtype=np.float32).reshape(4, 3, 2)
    found = reduced(volume, (2, 1, 2))
    assert found.shape == (2, 3, 1)
    assert found[1, 2, 0] == round(float(volume[2:4, 2, 0:2].mean()))


def test_the_middle_of_a_block_lies_where_its_pixels_do() -> None:
    affine = np.array([[-0.5, 0, 0, 100], [0, -0.7, 0, 90], [0, 0, 1.5, -30], [0, 0, 0, 1.0]])
    small = reduced_affine(affine, (3, 2, 1))
    np.testing.assert_allclose(small @ [4, 5, 6, 1], affine @ [13, 10.5, 6, 1])
    np.testing.assert_array_equal(reduced_affine(affine, (1, 1, 1)), affine)


def test_labels_come_back_to_the_matrix_of_the_source() -> None:
    labels = np.array([[1, 0], [0, 2]], dtype=np.uint8)
    back = enlarged(labels, (2, 3), (3, 5))
    assert back.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 2, 2]]
    assert reduced_side(3, 2) == 2
    assert reduced_side(5, 3) == 2


def test_whole_hu_beyond_two_bytes_stay_beyond_every_hu() -> None:
    found = whole_numbers(np.array([-40000.0, -1024.0, 3071.0, 62512.0], dtype=np.float32))
    assert found.tolist() == [-32768, -1024, 3071, 32767]


def test_the_warning_says_what_was_done() -> None:
    warning = reduction_warning((1024, 1000, 2000), 2, (0.7, 0.72))
    assert warning.code == "MATRIX_REDUCED"
    for part in ("2000 slices of 1024 x 1000", "blocks of 2 x 2", "512 x 500 of 0.70 x 0.72 mm", "No slice"):
        assert part in warning.sentence
