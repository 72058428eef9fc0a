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


def test_mixed_lesions_have_both_classes(chest: Chest) -> None:
    labels = _put(chest, pattern=Pattern.MIXED).labels
    assert set(np.unique(labels)) == {0, 1, 2}


@pytest.mark.parametrize(("filling", "lesion_class"), [(0.2, 1), (0.65, 2)])
def test_dense_crazy_paving_is_consolidation(chest: Chest, filling: float, lesion_class: int) -> None:
    labels = _put(chest, pattern=Pattern.CRAZY_PAVING, filling=filling, edge_mm=1.5).labels
    assert (labels[labels > 0] == lesion_class).mean() > 0.9


def test_ground_glass_upon_ground_glass_is_consolidation(chest: Chest) -> None:
    z, y, x = _centre(chest)
    lesion = Lesion((z, y, x), (20.0, 20.0, 20.0), Pattern.GROUND_GLASS, 0.38, 0.5, 0.1, 2.0)
    rng = np.random.default_rng(0)
    one, two = (implant(chest.hu, chest.lungs, chest.grid, [lesion] * n, rng).labels for n in (1, 2))
    assert set(np.unique(one)) == {0, 1}
    assert (two == 2).sum() > 0.7 * (one == 1).sum()


def test_vessels_in_ground_glass_are_not_labelled(chest: Chest) -> None:
    hu = chest.hu.copy()
    z, y, x = _centre(chest)
    hu[:, y - 2 : y + 3, x - 2 : x + 3] = 40.0
    lesion = Lesion((z, y, x), (25.0, 25.0, 25.0), Pattern.GROUND_GLASS, 0.4, 0.6, 0.5, 3.0)
    labels = implant(hu, chest.lungs, chest.grid, [lesion], np.random.default_rng(2)).labels
    assert not labels[z, y, x]
    assert labels[z, y + 6, x]


def test_turned_lesions_are_turned(chest: Chest) -> None:
    extents = []
    for turn in (0.0, np.pi / 2):
        seen = _put(chest, radii=(20.0, 25.0, 8.0), ragged=0.0, turn=turn).labels[_centre(chest)[0]] > 0
        extents.append([int(seen.any(axis=axis).sum()) for axis in (1, 0)])
    assert extents[0][0] > 1.5 * extents[0][1]
    assert extents[1][1] > 1.5 * extents[1][0]


def test_parts_of_a_chest_get_the_same_lesions(chest: Chest) -> None:
    z, y, x = _centre(chest)
    lesion = Lesion((z, y, x), (40.0, 30.0, 30.0), Pattern.GROUND_GLASS, 0.4, 0.6, 0.0, 3.0)
    rng = np.random.default_rng(0)
    whole = implant(chest.hu, chest.lungs, chest.grid, [lesion], rng).labels
    above = replace(lesion, centre=(-2, y, x))
    part = implant(chest.hu[z + 2 :], chest.lungs[z + 2 :], chest.grid, [above], rng).labels
    both = (whole[z + 2 :] > 0) & (part > 0)
    assert part.any()
    assert both.sum() > 0.9 * np.count_nonzero(part)


def test_crazy_paving_has_more_texture_than_ground_glass(chest: Chest) -> None:
    deviations = []
    for pattern in (Pattern.GROUND_GLASS, Pattern.CRAZY_PAVING):
        planted = _put(chest, pattern=pattern, radii=(30.0, 30.0, 30.0))
        inner = (planted.labels > 0) & (chest.hu < -750)
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
