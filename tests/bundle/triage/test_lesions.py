"""Instances of neighbouring slices linked into lesions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from builders.evidence import CONSOLIDATION, GGO, SHAPE, evidence, grid, instance, two_lungs
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.triage.lesions import (
    LesionRules,
    accepted_instances,
    lesion_voxel_count,
    lesion_voxels,
    link,
    slice_masks,
)

# Pixels of 1 x 2 mm, slices of 5 mm: a voxel has 0.01 ml.
GRID = grid()
RULES = LesionRules()
ROWS, COLUMNS = (10, 15), (5, 13)  # 40 pixels, 80 mm2, in the right lung


def _linked(*instances, rules: LesionRules = RULES, spacing=(1.0, 2.0, 5.0)):  # type: ignore[no-untyped-def]
    return link(instances, grid(spacing), rules)


def test_neighbours_that_overlap_are_one_lesion() -> None:
    (lesion,) = _linked(*(instance(k, ROWS, COLUMNS, score=0.6 + k / 100) for k in (3, 4, 5)))
    assert lesion.slices == (3, 4, 5)
    assert lesion.certainty == pytest.approx(0.65)
    assert lesion_voxel_count(lesion) == 120


@pytest.mark.parametrize(
    ("bridge", "spacing", "gap", "lesions"),
    [
        (5.0, 5.0, 1, 1),
        (5.0, 5.0, 2, 2),
        (10.0, 5.0, 2, 1),
        (10.0, 5.0, 3, 2),
        (5.0, 2.5000002, 2, 1),  # spacing from decimal strings is never exact
        (5.0, 1.0, 5, 1),
        (5.0, 1.0, 6, 2),
        (5.0, 8.0, 1, 1),
        (0.0, 5.0, 1, 1),
    ],
)
def test_gaps_up_to_the_bridge_are_crossed(bridge: float, spacing: float, gap: int, lesions: int) -> None:
    """Neighbouring slices count whatever their distance."""
    rules = LesionRules(bridge_mm=bridge, min_volume_ml=0.0)
    pair = (instance(2, ROWS, COLUMNS), instance(2 + gap, ROWS, COLUMNS))
    assert len(_linked(*pair, rules=rules, spacing=(1.0, 2.0, spacing))) == lesions


def test_through_others_what_does_not_touch_is_one_lesion() -> None:
    """A lesion that wanders: the first and the last instance share no pixel."""
    steps = [instance(k, ROWS, (2 + 4 * k, 10 + 4 * k)) for k in range(5)]
    (lesion,) = _linked(*steps)
    assert len(lesion.instances) == 5


def test_classes_are_not_mixed() -> None:
    lesions = _linked(instance(3, ROWS, COLUMNS, GGO), instance(4, ROWS, COLUMNS, CONSOLIDATION))
    assert sorted(lesion.lesion_class for lesion in lesions) == [GGO, CONSOLIDATION]


@pytest.mark.parametrize(("shift", "lesions"), [(5, 1), (6, 2), (8, 2)])
def test_the_shared_part_of_the_smaller_one_decides(shift: int, lesions: int) -> None:
    """8 columns wide: shifted by 5, 3/8 are shared; by 6, 2/8, less than 0.3."""
    moved = (COLUMNS[0] + shift, COLUMNS[1] + shift)
    assert len(_linked(instance(3, ROWS, COLUMNS), instance(4, ROWS, moved))) == lesions


def test_pixels_count_not_boxes() -> None:
    first, second = instance(3, ROWS, COLUMNS), instance(4, ROWS, COLUMNS)
    first.mask[:, 4:] = False
    second.mask[:, :4] = False
    assert len(_linked(first, second)) == 2


def test_instances_of_one_slice_that_overlap_are_one_and_their_pixels_count_once() -> None:
    (lesion,) = _linked(instance(3, (10, 15), (5, 13)), instance(3, (12, 17), (5, 13), score=0.7))
    assert lesion_voxel_count(lesion) == 7 * 8
    ((corner, mask),) = slice_masks(lesion).values()
    assert corner == (10, 5)
    assert mask.shape == (7, 8)
    (voxels,) = lesion_voxels(lesion)
    assert len(np.unique(voxels, axis=0)) == len(voxels) == 56
    assert voxels.min(axis=0).tolist() == [5, 10, 3]
    assert voxels.max(axis=0).tolist() == [12, 16, 3]


def test_the_largest_comes_first_and_the_order_does_not_matter() -> None:
    instances = [
        instance(1, (10, 12), (5, 9)),
        instance(5, (10, 20), (5, 15)),
        instance(6, (10, 20), (5, 15)),
        instance(5, (10, 14), (25, 30), CONSOLIDATION),
        instance(9, (10, 14), (25, 30), CONSOLIDATION),
    ]
    expected = None
    for order in itertools.permutations(instances):
        found = [
            (lesion.slices, lesion.lesion_class, lesion_voxel_count(lesion)) for lesion in _linked(*order)
        ]
        expected = expected or found
        assert found == expected
    # Equal volumes: inferior first.
    assert [slices for slices, _, _ in expected or []] == [(5, 6), (5,), (9,), (1,)]


def test_small_lesions_are_left_out_by_volume() -> None:
    """40 voxels of 0.01 ml."""
    one = instance(3, ROWS, COLUMNS)
    assert len(_linked(one, rules=LesionRules(min_volume_ml=0.399))) == 1
    assert _linked(one, rules=LesionRules(min_volume_ml=0.41)) == ()
    assert _linked() == ()


def test_lesions_of_one_slice_must_be_more_certain() -> None:
    lone, pair = instance(3, ROWS, COLUMNS, score=0.7), instance(8, ROWS, COLUMNS, score=0.7)
    other = instance(9, ROWS, COLUMNS, score=0.6)
    assert len(_linked(lone, pair, other)) == 2
    assert [
        lesion.slices for lesion in _linked(lone, pair, other, rules=LesionRules(lone_certainty=0.71))
    ] == [(8, 9)]
    assert len(_linked(lone, pair, other, rules=LesionRules(lone_certainty=0.7))) == 2
    assert _linked(lone, pair, other, rules=LesionRules(min_certainty=0.71)) == ()


def _accepted(*instances, rules: LesionRules = RULES):  # type: ignore[no-untyped-def]
    return accepted_instances([evidence(i.slice_index, i) for i in instances], two_lungs(), GRID, rules)


def test_certain_large_instances_inside_the_lungs_are_accepted_in_order() -> None:
    later, earlier = instance(6, ROWS, COLUMNS), instance(3, ROWS, COLUMNS)
    assert _accepted(later, earlier) == (earlier, later)


@pytest.mark.parametrize(("score", "accepted"), [(0.5, True), (0.4999, False)])
def test_the_least_score_is_enough(score: float, accepted: bool) -> None:
    assert bool(_accepted(instance(3, ROWS, COLUMNS, score=score))) is accepted


@pytest.mark.parametrize(("columns", "accepted"), [((5, 10), True), ((5, 9), False)])
def test_the_least_area_is_in_mm2(columns: tuple[int, int], accepted: bool) -> None:
    """One row of 5 pixels of 2 mm2 is 10 mm2."""
    assert bool(_accepted(instance(3, (10, 11), columns))) is accepted


@pytest.mark.parametrize(
    ("columns", "slice_index", "margin", "accepted"),
    [
        ((14, 22), 4, 0.0, True),  # 4 of 8 columns in the right lung
        ((15, 23), 2, 0.0, False),  # 3 of 8; the left lung begins at slice 3
        ((15, 23), 2, 1.0, True),  # one more column lies within 1 mm
        ((18, 22), 2, 5.0, True),
        ((24, 32), 2, 5.0, False),
        ((24, 32), 3, 0.0, True),
    ],
)
def test_lesions_lie_in_the_lungs_or_within_the_margin(
    columns: tuple[int, int], slice_index: int, margin: float, accepted: bool
) -> None:
    rules = LesionRules(lung_margin_mm=margin)
    assert bool(_accepted(instance(slice_index, ROWS, columns), rules=rules)) is accepted


def test_without_the_demand_lesions_may_lie_anywhere() -> None:
    rules = LesionRules(min_lung_share=0.0)
    assert _accepted(instance(1, (0, 3), (36, 40)), rules=rules)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_score": 1.1},
        {"link_share": -0.1},
        {"min_lung_share": 2.0},
        {"bridge_mm": -1.0},
        {"min_volume_ml": -0.1},
        {"lone_certainty": 1.5},
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))) as caught:
        LesionRules(**wrong)
    assert caught.value.code == "SETTING"


def test_shape_of_the_phantom() -> None:
    assert two_lungs().shape == SHAPE
