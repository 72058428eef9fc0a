from __future__ import annotations

import numpy as np
import pytest

from builders.volumes import SHAPE, grid, two_lungs
from covid_ct_mask_net.labels import LesionClass, Side, Zone
from covid_ct_mask_net.triage.involvement import measure_involvement
from covid_ct_mask_net.triage.regions import LungRegions

VOXEL_ML = 0.01
LUNG_VOXELS = 12 * 20 * 10


def measured(lesions: np.ndarray, lungs: np.ndarray | None = None):
    return measure_involvement(LungRegions(two_lungs() if lungs is None else lungs), lesions, grid())


def test_healthy_lungs() -> None:
    involvement = measured(np.zeros(SHAPE, np.uint8))
    assert involvement.total.lung_ml == pytest.approx(2 * LUNG_VOXELS * VOXEL_ML)
    assert involvement.total.percent == 0.0
    assert involvement.sides[Side.RIGHT].lung_ml == pytest.approx(LUNG_VOXELS * VOXEL_ML)


def test_volumes_add_up_over_sides_zones_and_classes() -> None:
    lesions = np.zeros(SHAPE, np.uint8)
    lesions[5:10, 10:14, 2:4] = LesionClass.GROUND_GLASS_OPACITY  # 40 voxels, right, lower
    lesions[26:30, 10:15, 9] = LesionClass.CONSOLIDATION  # 20 voxels, left, upper
    involvement = measured(lesions)
    total = involvement.total
    assert total.ground_glass_opacity_ml == pytest.approx(0.4)
    assert total.consolidation_ml == pytest.approx(0.2)
    assert total.lesion_ml == pytest.approx(0.6)
    assert total.percent == pytest.approx(100 * 60 / (2 * LUNG_VOXELS), abs=1e-3)
    assert involvement.zones[Side.RIGHT][Zone.LOWER].ground_glass_opacity_ml == pytest.approx(0.4)
    assert involvement.zones[Side.LEFT][Zone.UPPER].consolidation_ml == pytest.approx(0.2)
    for name in ("lung_ml", "lesion_ml"):
        by_side = sum(getattr(involvement.sides[side], name) for side in Side)
        by_zone = sum(getattr(involvement.zones[side][zone], name) for side in Side for zone in Zone)
        assert by_side == pytest.approx(getattr(total, name), abs=1e-2)
        assert by_zone == pytest.approx(getattr(total, name), abs=1e-2)


def test_a_lesion_outside_of_the_mask_counts_as_lung() -> None:
    lesions = np.zeros(SHAPE, np.uint8)
    lesions[17:19, 10:15, 5] = LesionClass.CONSOLIDATION  # between the lungs, nearer to the right one
    involvement = measured(lesions)
    assert involvement.sides[Side.RIGHT].consolidation_ml == pytest.approx(0.1)
    assert involvement.total.lung_ml == pytest.approx((2 * LUNG_VOXELS + 10) * VOXEL_ML)


def test_a_missing_lung_has_no_zones() -> None:
    lungs = two_lungs()
    lungs[lungs == 2] = 0
    involvement = measured(np.zeros(SHAPE, np.uint8), lungs)
    assert set(involvement.zones) == {Side.RIGHT}
    assert involvement.sides[Side.LEFT].percent == 0.0
