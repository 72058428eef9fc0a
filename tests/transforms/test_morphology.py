"""Morphology on stacks of slices equals SciPy's, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from covid_ct_mask_net.transforms import morphology

Mask = NDArray[np.bool_]
IN_PLANE = ndimage.generate_binary_structure(2, 1)[None]
BALL = ndimage.generate_binary_structure(3, 1)


def _mask(seed: int, shape: tuple[int, int, int] = (37, 29, 41), sigma: float = 1.2) -> Mask:
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(noise, sigma) > 0.0)


@pytest.fixture(params=[0, 1, 2], ids=["fine", "coarse", "one slice"])
def mask(request: pytest.FixtureRequest) -> Mask:
    return (_mask(0, sigma=0.6), _mask(1, sigma=2.5), _mask(2, (1, 20, 30)))[request.param]


@pytest.mark.parametrize(("axes", "structure"), [((1, 2), IN_PLANE), ((0, 1, 2), BALL)])
def test_neighbours_are_those_of_scipy(mask: Mask, axes: tuple[int, ...], structure: Mask) -> None:
    assert np.array_equal(morphology.dilated(mask, axes), ndimage.binary_dilation(mask, structure))
    for outside in (False, True):
        expected = ndimage.binary_erosion(mask, structure, border_value=int(outside))
        assert np.array_equal(morphology.eroded(mask, axes, outside=outside), expected)


@pytest.mark.parametrize("reach", [(0, 0), (1, 1), (0, 2), (3, 1), (5, 6)])
def test_boxes_are_those_of_scipy(mask: Mask, reach: tuple[int, int]) -> None:
    box = np.ones((1, 2 * reach[0] + 1, 2 * reach[1] + 1), dtype=bool)
    assert np.array_equal(morphology.eroded_by_box(mask, reach), ndimage.binary_erosion(mask, box))
    assert np.array_equal(morphology.opened_by_box(mask, reach), ndimage.binary_opening(mask, box))
    around = np.pad(mask, ((0, 0), (6, 6), (6, 6)))
    closed = ndimage.binary_closing(around, box)[:, 6:-6, 6:-6]
    assert np.array_equal(morphology.closed_by_box(mask, reach), closed)


def test_holes_are_those_of_scipy_in_each_slice(mask: Mask) -> None:
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in mask])
    assert np.array_equal(mask | morphology.holes(mask), filled)
    assert not (mask & morphology.holes(mask)).any()


def test_holes_up_to_a_size_are_found_and_larger_ones_are_not() -> None:
    planes = np.ones((2, 20, 20), dtype=bool)
    planes[0, 3:5, 3:5] = planes[1, 3:7, 3:7] = planes[1, 0, 12] = False
    found = morphology.holes(planes, 4.0)
    assert found[0, 3:5, 3:5].all()
    assert np.count_nonzero(found) == 4
    assert np.count_nonzero(morphology.holes(planes)) == 20


def test_labels_are_counted_as_numpy_counts_them(mask: Mask) -> None:
    labels, count = ndimage.label(mask)
    assert morphology.label_sizes(labels, count).tolist() == np.bincount(labels.ravel()).tolist()


def test_the_box_around_a_mask_is_as_tight_as_scipys() -> None:
    mask = np.zeros((9, 8, 7), dtype=bool)
    assert morphology.bounding_box(mask) is None
    mask[2, 3, 6] = mask[4, 0, 5] = True
    assert morphology.bounding_box(mask) == ndimage.find_objects(mask.astype(np.uint8))[0]


def test_each_slice_is_taken_once_and_errors_come_out() -> None:
    taken = np.zeros(100, dtype=int)

    def take(part: slice) -> None:
        taken[part] += 1

    morphology.each_slab(take, 100)
    assert (taken == 1).all()

    def fail(part: slice) -> None:
        raise ValueError(f"{part.start}")

    with pytest.raises(ValueError, match="0"):
        morphology.each_slab(fail, 5)


def test_components_are_labelled_as_by_scipy_however_many_there_are() -> None:
    chessboard = np.indices((1, 500, 500)).sum(axis=0) % 2 == 0
    for mask, bits in ((chessboard[:, :9, :9], 16), (chessboard, 32)):
        expected, count = ndimage.label(mask)
        found, number = morphology.labelled(mask)
        assert number == count
        assert found.itemsize * 8 == bits
        assert np.array_equal(found, expected)
    assert count > 2**16
