"""How much of the lungs is affected: golden volumes, and sums that must hold."""

from __future__ import annotations

import numpy as np
import pytest

from builders.evidence import SHAPE, grid, two_lungs
from covid_ct_mask_net.labels import Side, Zone
from covid_ct_mask_net.results import Involvement, RegionInvolvement
from covid_ct_mask_net.triage.involvement import measure_involvement
from covid_ct_mask_net.triage.regions import LungRegions

# A voxel has 0.01 ml; each lung 16 x 20 x 9 voxels = 28.8 ml.
GRID = grid()


def _measure(lesions: np.ndarray, lungs: np.ndarray | None = None) -> Involvement:
    return measure_involvement(LungRegions(two_lungs() if lungs is None else lungs), lesions, GRID)


def test_golden_volumes() -> None:
    lesions = np.zeros(SHAPE, np.uint8)
    lesions[5:10, 10:20, 0:2] = 1  # 100 voxels, right, lower third
    lesions[30:34, 10:15, 9] = 2  # 20 voxels, left, upper third
    found = _measure(lesions)
    assert found.total == RegionInvolvement(57.6, 1.0, 0.2, 1.2, round(100 * 1.2 / 57.6, 3))
    assert found.sides[Side.RIGHT] == RegionInvolvement(28.8, 1.0, 0.0, 1.0, round(100 / 28.8, 3))
    assert found.sides[Side.LEFT] == RegionInvolvement(28.8, 0.0, 0.2, 0.2, round(20 / 28.8, 3))
    assert found.zones[Side.RIGHT][Zone.LOWER] == RegionInvolvement(9.6, 1.0, 0.0, 1.0, round(100 / 9.6, 3))
    assert found.zones[Side.LEFT][Zone.UPPER].consolidation_ml == 0.2
    assert found.zones[Side.LEFT][Zone.LOWER].lesion_ml == 0.0


def test_clear_lungs_have_no_involvement() -> None:
    found = _measure(np.zeros(SHAPE, np.uint8))
    assert found.total == RegionInvolvement(57.6, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_parts_sum_to_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lesions = rng.choice(3, size=SHAPE, p=[0.9, 0.06, 0.04]).astype(np.uint8)
    found = _measure(lesions)
    for name in ("lung_ml", "ground_glass_opacity_ml", "consolidation_ml", "lesion_ml"):
        whole = getattr(found.total, name)
        assert sum(getattr(side, name) for side in found.sides.values()) == pytest.approx(whole, abs=0.002)
        for side, zones in found.zones.items():
            parts = sum(getattr(zone, name) for zone in zones.values())
            assert parts == pytest.approx(getattr(found.sides[side], name), abs=0.002)
    # No lesion voxel is lost, those outside of the lung mask neither.
    assert found.total.lesion_ml == pytest.approx(np.count_nonzero(lesions) * 0.01, abs=0.002)
    assert 0.0 <= found.total.percent <= 100.0


def test_lesions_outside_of_the_mask_are_lung_of_their_side() -> None:
    lesions = np.zeros(SHAPE, np.uint8)
    lesions[0:2, 5:10, 4] = 2  # 10 voxels at the right chest wall
    found = _measure(lesions)
    assert found.sides[Side.RIGHT].lung_ml == pytest.approx(28.9)
    assert found.sides[Side.RIGHT].consolidation_ml == pytest.approx(0.1)


def test_one_lung_alone_has_no_zones_of_the_other() -> None:
    lungs = two_lungs()
    lungs[lungs == 2] = 0
    found = _measure(np.zeros(SHAPE, np.uint8), lungs)
    assert set(found.zones) == {Side.RIGHT}
    assert found.sides[Side.LEFT] == RegionInvolvement(0.0, 0.0, 0.0, 0.0, 0.0)


def test_inputs_stay_as_they_were() -> None:
    lesions, lungs = np.ones(SHAPE, np.uint8), two_lungs()
    _measure(lesions, lungs)
    assert (lesions == 1).all()
    assert np.array_equal(lungs, two_lungs())
