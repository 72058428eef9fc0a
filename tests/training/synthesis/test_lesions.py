from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from covid_ct_mask_net.training.synthesis.lesions import Implanted, Lesion, Pattern, implant
from covid_ct_mask_net.training.synthesis.phantom import Chest


def _centre(chest: Chest) -> tuple[int, int, int]:
    z = int(np.argmax((chest.lungs == 1).sum(axis=(1, 2))))
    y, x = np.argwhere(chest.lungs[z] == 1).mean(axis=0)
    return z, int(y), int(x)


def _put(chest: Chest, **changes: object) -> Implanted:
    lesion = Lesion(_centre(chest), (25.0, 25.0, 25.0), Pattern.GROUND_GLASS, 0.4, 0.6, 0.5, 3.0)
    lesion = replace(lesion, **changes)
    return implant(chest.hu, chest.lungs, chest.grid, [lesion], np.random.default_rng(2), chest.airways)


def test_nothing_changes_outside_the_lung_of_the_lesion(chest: Chest) -> None:
    planted = _put(chest, radii=(60.0, 60.0, 60.0))
    elsewhere = chest.lungs != 1
    assert np.array_equal(planted.hu[elsewhere], chest.hu[elsewhere])
    assert not planted.labels[elsewhere].any()
    assert planted.labels.any()


def test_ground_glass_raises_attenuation_and_keeps_vessels(chest: Chest) -> None:
    planted = _put(chest)
    seen = planted.labels == 1
    assert not (planted.labels == 2).any()
    air = seen & (chest.hu < -750)
    assert 150 < (planted.hu - chest.hu)[air].mean() < 480
    vessels = seen & (chest.hu > -450)
    assert vessels.any()
    assert (planted.hu - chest.hu)[vessels].mean() < 0.6 * (planted.hu - chest.hu)[air].mean()
    assert (planted.hu >= chest.hu - 30).all()


def test_consolidation_is_dense_with_open_bronchi(chest: Chest) -> None:
    planted = _put(chest, pattern=Pattern.CONSOLIDATION, edge_mm=1.5)
    assert chest.airways is not None
    solid = (planted.labels == 2) & (chest.airways < 0.1)
    assert np.median(planted.hu[solid]) > -150
    open_ = (planted.labels == 2) & (chest.airways > 0.6)
    assert not open_.any() or planted.hu[open_].mean() < -500


@pytest.mark.parametrize(("pattern", "classes"), [(Pattern.MIXED, {1, 2}), (Pattern.CRAZY_PAVING, {1})])
def test_classes_of_patterns(chest: Chest, pattern: Pattern, classes: set[int]) -> None:
    labels = _put(chest, pattern=pattern).labels
    assert set(np.unique(labels)) - {0} == classes


def test_crazy_paving_has_more_texture_than_ground_glass(chest: Chest) -> None:
    deviations = []
    for pattern in (Pattern.GROUND_GLASS, Pattern.CRAZY_PAVING):
        planted = _put(chest, pattern=pattern, radii=(30.0, 30.0, 30.0))
        inner = (planted.labels == 1) & (chest.hu < -750)
        deviations.append(float((planted.hu - chest.hu)[inner].std()))
    assert deviations[1] > 1.2 * deviations[0]


def test_instances_number_the_lesions(chest: Chest) -> None:
    z, y, x = _centre(chest)
    lesions = [
        Lesion((z + d, y, x), (9.0, 9.0, 9.0), Pattern.GROUND_GLASS, 0.3, 0.5, 0.3, 2.0) for d in (-3, 3)
    ]
    planted = implant(chest.hu, chest.lungs, chest.grid, lesions, np.random.default_rng(0))
    assert set(np.unique(planted.instances)) == {0, 1, 2}
    assert np.array_equal(planted.instances > 0, planted.labels > 0)


def test_size_follows_the_radii(chest: Chest) -> None:
    small, large = (_put(chest, radii=(r, r, r), ragged=0.2).labels > 0 for r in (15.0, 25.0))
    sphere = 4 / 3 * np.pi * 2.5**3 * 1.0
    assert small.sum() < large.sum()
    assert 0.4 * sphere < large.sum() * chest.grid.voxel_ml < 1.5 * sphere
