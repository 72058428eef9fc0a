"""Masses put into slices."""

import numpy as np
import pytest
from scipy import ndimage

from covid_ct_mask_net.training.synthesis.anatomy import LEFT, RIGHT
from covid_ct_mask_net.training.synthesis.grids import Grid, Labels, Volume
from covid_ct_mask_net.training.synthesis.masses import _spicules, with_masses

GRID = Grid((10, 100, 160), (4.0, 1.5, 1.5), (0.0, -75.0, -120.0))


@pytest.fixture
def slab() -> tuple[Volume, Labels]:
    lungs = np.zeros(GRID.shape, dtype=np.uint8)
    lungs[:, 10:90, 5:75], lungs[:, 10:90, 85:155] = RIGHT, LEFT
    return np.where(lungs > 0, -850.0, 40.0).astype(np.float32), lungs


def _many(slab: tuple[Volume, Labels], count: int = 40) -> list[tuple[Volume, Labels]]:
    return [with_masses(*slab, GRID, np.random.default_rng(seed)) for seed in range(count)]


def test_masses_are_soft_tissue_in_lung_and_lung_no_more(slab: tuple[Volume, Labels]) -> None:
    hu, lungs = slab
    for shown, left_over in _many(slab):
        assert (shown[lungs == 0] == hu[lungs == 0]).all()
        assert (shown >= hu).all()
        gone = (lungs > 0) & (left_over == 0)
        # More than half of such a voxel is tissue of at least 10 HU, give or take noise.
        assert (shown[gone] > -460).all()
        assert (left_over[left_over > 0] == lungs[left_over > 0]).all()


def test_there_are_one_to_three_of_6_to_34_mm(slab: tuple[Volume, Labels]) -> None:
    lungs = slab[1]
    diameters = []
    for _, left_over in _many(slab):
        labels, count = ndimage.label((lungs > 0) & (left_over == 0))
        found = ndimage.sum_labels(np.ones(GRID.shape), labels, range(1, count + 1)) * np.prod(GRID.spacing)
        whole = found[found > 60]
        assert len(whole) <= 3
        diameters += list(2 * (3 * whole / (4 * np.pi)) ** (1 / 3))
    assert len(diameters) > 40
    # The axes vary about the mean, and lobes add to it.
    assert max(diameters) < 44
    assert np.mean(np.array(diameters) > 15) > 0.25


def test_they_end_sharply(slab: tuple[Volume, Labels]) -> None:
    """From lung to tissue in about two pixels; consolidation takes 1.5 to 7 mm and is ragged."""
    lungs = slab[1]
    within, border = 0, 0
    for shown, left_over in _many(slab, 20):
        solid = (lungs > 0) & (left_over == 0)
        near = ndimage.binary_dilation(solid, np.ones((1, 5, 5))) & (lungs > 0)
        within += np.count_nonzero(solid & (shown > -50))
        border += np.count_nonzero(near & (shown > -750) & (shown <= -50) & ~_faint_slices(solid))
    assert border < 0.5 * within


def _faint_slices(solid: np.ndarray) -> np.ndarray:
    """Return voxels above or below a mass, where it fills part of the slice."""
    padded = np.pad(solid, ((1, 1), (0, 0), (0, 0)))
    beside = ndimage.binary_dilation(solid, np.ones((1, 5, 5)))
    return ~(padded[:-2] & padded[2:] & solid) & ~(beside & ~solid)


def test_spicules_run_outwards_and_grow_faint() -> None:
    axes = np.meshgrid(*[np.arange(-30.0, 30.5, 0.5)] * 2, [0.0], indexing="ij")
    offsets = np.stack([axes[2], axes[0], axes[1]]).astype(np.float32)
    distance = np.linalg.norm(offsets, axis=0)
    drawn = [_spicules(offsets, 10.0, np.random.default_rng(seed)) for seed in range(30)]
    at = [np.mean([share[np.abs(distance - mm) < 0.5].mean() for share in drawn]) for mm in (11, 14, 18, 23)]
    assert at[0] > at[1] > at[2] > at[3] == 0
    assert at[0] > 0.008
    assert max(share.max() for share in drawn) <= 1


def test_about_a_third_has_them(slab: tuple[Volume, Labels], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(
        "covid_ct_mask_net.training.synthesis.masses._mass",
        lambda box, *_, spiculated: (
            drawn.append(spiculated) or np.zeros([b.stop - b.start for b in box], np.float32)
        ),
    )
    _many(slab, 100)
    assert 100 <= len(drawn) <= 300
    assert 0.25 < np.mean(drawn) < 0.45


def test_a_seed_gives_the_same_and_the_chest_stays(slab: tuple[Volume, Labels]) -> None:
    hu, lungs = (array.copy() for array in slab)
    first, again = (with_masses(*slab, GRID, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert np.array_equal(slab[0], hu)
    assert np.array_equal(slab[1], lungs)


def test_without_lungs_nothing_is_drawn(slab: tuple[Volume, Labels]) -> None:
    hu = slab[0]
    shown, left_over = with_masses(hu, np.zeros_like(slab[1]), GRID, np.random.default_rng(0))
    assert np.array_equal(shown, hu)
    assert not left_over.any()


def test_a_mass_in_a_corner_of_the_chest_is_cut_off_there() -> None:
    """Where the lungs are a single voxel at the edge of the slab, most of the mass lies outside."""
    lungs = np.zeros(GRID.shape, dtype=np.uint8)
    lungs[0, 0, 0] = RIGHT
    hu = np.where(lungs > 0, -850.0, 40.0).astype(np.float32)
    shown, left_over = with_masses(hu, lungs, GRID, np.random.default_rng(1))
    assert np.count_nonzero(shown != hu) == 1
    assert not left_over.any()
