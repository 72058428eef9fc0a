"""Instances of all slices as one label volume."""

from __future__ import annotations

import itertools

import numpy as np

from builders.evidence import CONSOLIDATION, GGO, SHAPE, instance
from covid_ct_mask_net.triage.label_map import instance_region, label_map


def test_columns_are_x_and_rows_are_y() -> None:
    labels = label_map([instance(4, (10, 12), (20, 25), CONSOLIDATION)], SHAPE)
    assert labels.shape == SHAPE
    assert labels.dtype == np.uint8
    expected = np.zeros(SHAPE, np.uint8)
    expected[20:25, 10:12, 4] = 2
    assert np.array_equal(labels, expected)


def test_the_surer_of_two_holds_the_voxel_whatever_their_order() -> None:
    instances = [
        instance(1, (0, 10), (0, 10), GGO, 0.6),
        instance(1, (5, 15), (5, 15), CONSOLIDATION, 0.8),
        instance(1, (8, 12), (0, 30), GGO, 0.7),
    ]
    maps = [label_map(order, SHAPE) for order in itertools.permutations(instances)]
    assert all(np.array_equal(maps[0], other) for other in maps[1:])
    assert maps[0][5, 5, 1] == 2
    assert maps[0][9, 9, 1] == 2
    assert maps[0][20, 9, 1] == 1
    assert maps[0][0, 0, 1] == 1


def test_between_equal_scores_consolidation_holds_the_voxel() -> None:
    pair = [instance(0, (0, 4), (0, 4), CONSOLIDATION, 0.7), instance(0, (0, 4), (0, 4), GGO, 0.7)]
    for order in (pair, pair[::-1]):
        assert (label_map(order, SHAPE)[:4, :4, 0] == 2).all()


def test_only_pixels_of_the_mask_count() -> None:
    lesion = instance(0, (2, 5), (3, 7))
    lesion.mask[1, 2] = False
    labels = label_map([lesion], SHAPE)
    assert labels[5, 3, 0] == 0
    assert labels.sum() == 11
    assert not label_map([], SHAPE).any()


def test_the_region_of_an_instance() -> None:
    assert instance_region(instance(3, (2, 5), (3, 7))) == (3, slice(2, 5), slice(3, 7))
