"""Domes of the diaphragm put into slices."""

import numpy as np
import pytest

from covid_ct_mask_net.training.synthesis.anatomy import LEFT, RIGHT
from covid_ct_mask_net.training.synthesis.domes import with_domes
from covid_ct_mask_net.training.synthesis.grids import Grid, Labels, Volume

GRID = Grid((6, 60, 100), (5.0, 3.0, 3.0), (0.0, -90.0, -150.0))


@pytest.fixture
def slab() -> tuple[Volume, Labels]:
    lungs = np.zeros(GRID.shape, dtype=np.uint8)
    lungs[:, 10:50, 5:45], lungs[:, 10:50, 55:95] = RIGHT, LEFT
    return np.where(lungs > 0, -850.0, 40.0).astype(np.float32), lungs


def _many(slab: tuple[Volume, Labels], count: int = 40) -> list[tuple[Volume, Labels]]:
    return [with_domes(*slab, GRID, np.random.default_rng(seed)) for seed in range(count)]


def test_lung_becomes_soft_tissue_and_is_lung_no_more(slab: tuple[Volume, Labels]) -> None:
    hu, lungs = slab
    shrunk = 0
    for shown, left_over in _many(slab):
        assert (shown[lungs == 0] == hu[lungs == 0]).all()
        gone = (lungs > 0) & (left_over == 0)
        # More than half of such a voxel is tissue of at least 35 HU.
        assert (shown[gone] > -460).all()
        assert (left_over[left_over > 0] == lungs[left_over > 0]).all()
        shrunk += bool(gone.any())
    assert shrunk > 25


def test_domes_grow_from_slice_to_slice_towards_the_feet(slab: tuple[Volume, Labels]) -> None:
    for _, left_over in _many(slab):
        areas = np.count_nonzero(left_over, axis=(1, 2))
        assert (np.diff(areas) >= 0).all()


def test_their_tops_are_faint_where_they_fill_part_of_a_slice(slab: tuple[Volume, Labels]) -> None:
    hu, _ = slab
    partial = [np.count_nonzero((shown > -800) & (shown < -100)) for shown, _ in _many(slab)]
    assert np.mean(partial) > 50
    assert not ((hu > -800) & (hu < -100)).any()


def test_a_seed_gives_the_same_and_the_chest_stays(slab: tuple[Volume, Labels]) -> None:
    hu, lungs = (array.copy() for array in slab)
    first, again = (with_domes(*slab, GRID, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert np.array_equal(slab[0], hu)
    assert np.array_equal(slab[1], lungs)


def test_without_lungs_nothing_is_drawn(slab: tuple[Volume, Labels]) -> None:
    hu = slab[0]
    shown, left_over = with_domes(hu, np.zeros_like(slab[1]), GRID, np.random.default_rng(0))
    assert np.array_equal(shown, hu)
    assert not left_over.any()
