from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.synthesis.disease import LungMap, confluent, draw_lesions, map_lungs
from covid_ct_mask_net.training.synthesis.lesions import Lesion, Pattern
from covid_ct_mask_net.training.synthesis.phantom import Chest


@pytest.fixture(scope="module")
def lungs(chest: Chest) -> LungMap:
    return map_lungs(chest.lungs, chest.grid, chest.roots)


def _many(lungs: LungMap, slice_class: SliceClass, count: int = 60) -> list[list[Lesion]]:
    return [draw_lesions(slice_class, lungs, np.random.default_rng(n)) for n in range(count)]


def _share(patients: list[list[Lesion]], pattern: Pattern) -> float:
    lesions = [lesion for patient in patients for lesion in patient]
    return sum(lesion.pattern is pattern for lesion in lesions) / len(lesions)


def test_controls_have_no_lesions(lungs: LungMap) -> None:
    assert not any(_many(lungs, SliceClass.CONTROL))


def test_covid_is_bilateral_basal_and_mostly_ground_glass(lungs: LungMap, chest: Chest) -> None:
    covid, other = _many(lungs, SliceClass.COVID_19), _many(lungs, SliceClass.COMMON_PNEUMONIA)

    def bilateral(patients: list[list[Lesion]]) -> float:
        sides = [{int(chest.lungs[lesion.centre]) for lesion in patient} for patient in patients]
        return sum(side >= {1, 2} for side in sides) / len(sides)

    assert bilateral(covid) > 0.9
    assert bilateral(other) < 0.5
    assert _share(covid, Pattern.CONSOLIDATION) < 0.2 < _share(other, Pattern.CONSOLIDATION)
    middle = np.median(np.argwhere(chest.lungs)[:, 0])
    heights = [lesion.centre[0] for patient in covid for lesion in patient]
    assert np.mean(np.array(heights) < middle) > 0.55
    assert np.mean([len(p) for p in covid]) > np.mean([len(p) for p in other])


def test_covid_is_peripheral(lungs: LungMap) -> None:
    depth = {tuple(voxel): float(mm) for voxel, mm in zip(lungs.voxels, lungs.pleura_mm, strict=True)}
    drawn = [depth[lesion.centre] for patient in _many(lungs, SliceClass.COVID_19) for lesion in patient]
    assert np.median(drawn) < np.median(lungs.pleura_mm)


def test_severity_adds_lesions(lungs: LungMap) -> None:
    sizes = [
        np.mean(
            [len(draw_lesions(SliceClass.COVID_19, lungs, np.random.default_rng(n), s)) for n in range(30)]
        )
        for s in (0.1, 0.9)
    ]
    assert sizes[1] > sizes[0] + 3


def test_confluent_opacities_are_large(lungs: LungMap) -> None:
    large = confluent(lungs, np.random.default_rng(3), 20)
    assert np.median([max(lesion.radii) for lesion in large]) > 40
    assert {lesion.pattern for lesion in large} >= {Pattern.GROUND_GLASS, Pattern.CRAZY_PAVING}
    assert confluent(lungs, np.random.default_rng(3), 0) == []


def test_map_measures_depth_and_height(lungs: LungMap) -> None:
    assert lungs.height.min() == 0
    assert lungs.height.max() == 1
    assert 0 < lungs.pleura_mm.min() < 9
    assert lungs.pleura_mm.max() > 20
    assert set(np.unique(lungs.side)) == {1, 2}
