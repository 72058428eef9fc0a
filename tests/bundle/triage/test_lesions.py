from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from builders.volumes import evidence, grid, instance, two_lungs
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.triage.lesions import (
    LesionRules,
    accepted_instances,
    lesion_voxel_count,
    lesion_voxels,
    link,
    slice_masks,
)

GRID = grid()
RULES = LesionRules()


def accepted(*instances, rules: LesionRules = RULES) -> int:
    return len(accepted_instances([evidence(i.slice_index, i) for i in instances], two_lungs(), GRID, rules))


def test_uncertain_tiny_and_outlying_instances_are_left_out() -> None:
    assert accepted(instance(5)) == 1
    assert accepted(instance(5, score=0.49)) == 0
    assert accepted(instance(5, size=(2, 2))) == 0  # 4 pixels of 2 mm2
    assert accepted(instance(5, column=0)) == 1  # within 5 mm of the lung
    assert accepted(instance(5, column=18, row=8, size=(8, 4)), rules=LesionRules(lung_margin_mm=0)) == 0
    assert accepted(instance(0)) == 0  # a slice without lung


def test_a_margin_reaches_as_far_as_it_says() -> None:
    beyond = instance(5, column=16, row=8, size=(4, 4))  # starts where the right lung ends
    assert accepted(beyond, rules=LesionRules(lung_margin_mm=0.0)) == 0
    assert accepted(beyond, rules=LesionRules(lung_margin_mm=2.0)) == 1


def test_neighbours_that_overlap_are_one_lesion_whatever_their_order() -> None:
    chain = [instance(3, 6, 8), instance(4, 7, 9), instance(5, 8, 10), instance(8, 8, 10)]
    for order in itertools.permutations(chain):
        lesions = link(order, GRID, RULES)
        assert [lesion.slices for lesion in lesions] == [(3, 4, 5), (8,)]
        assert lesion_voxel_count(lesions[0]) == 48


def test_classes_are_never_linked() -> None:
    dense = instance(4, lesion_class=LesionClass.CONSOLIDATION)
    assert len(link([instance(3), dense], GRID, RULES)) == 2


def test_a_gap_is_bridged_as_far_as_bridge_mm() -> None:
    apart = [instance(3), instance(5)]  # 10 mm
    assert len(link(apart, GRID, RULES)) == 2
    assert len(link(apart, GRID, dataclasses.replace(RULES, bridge_mm=10.0))) == 1


def test_a_small_overlap_does_not_link() -> None:
    corner = [instance(3, 6, 8), instance(4, 9, 11)]  # 1 of 16 pixels
    assert len(link(corner, GRID, RULES)) == 2
    assert len(link(corner, GRID, dataclasses.replace(RULES, link_share=0.05))) == 1


def test_overlapping_instances_of_one_slice_count_each_voxel_once() -> None:
    (lesion,) = link([instance(3, 6, 8), instance(3, 8, 8)], GRID, RULES)
    assert lesion_voxel_count(lesion) == len(lesion_voxels(lesion)) == 24
    (corner, mask) = slice_masks(lesion)[3]
    assert corner == (8, 6)
    assert mask.shape == (4, 6)
    voxels = lesion_voxels(lesion)
    np.testing.assert_array_equal(voxels.min(axis=0), [6, 8, 3])
    np.testing.assert_array_equal(voxels.max(axis=0), [11, 11, 3])


def test_lesions_come_largest_first_and_tiny_ones_not_at_all() -> None:
    small, large = instance(2, size=(4, 4)), instance(8, size=(6, 6))
    lesions = link([small, large], GRID, RULES)
    assert [lesion.slices for lesion in lesions] == [(8,), (2,)]
    # 16 voxels of 10 mm3 are 0.16 ml.
    assert len(link([small, large], GRID, dataclasses.replace(RULES, min_volume_ml=0.2))) == 1
    assert link([], GRID, RULES) == ()


def test_certainty_is_that_of_the_best_slice() -> None:
    (lesion,) = link([instance(3, score=0.6), instance(4, score=0.95)], GRID, RULES)
    assert lesion.certainty == 0.95


@pytest.mark.parametrize("change", [{"min_score": 1.5}, {"link_share": -0.1}, {"bridge_mm": -1.0}])
def test_rules_outside_their_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        LesionRules(**change)
