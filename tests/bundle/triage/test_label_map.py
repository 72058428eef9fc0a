from __future__ import annotations

import itertools

import numpy as np

from builders.volumes import SHAPE, instance
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.triage.label_map import instance_region, label_map, slices_first

GGO = instance(3, 5, 5, score=0.8)
DENSE = instance(3, 7, 7, score=0.9, lesion_class=LesionClass.CONSOLIDATION)


def test_a_voxel_belongs_to_the_most_certain_instance_in_any_order() -> None:
    other = instance(3, 5, 5, size=(2, 2), score=0.7, lesion_class=LesionClass.CONSOLIDATION)
    maps = [label_map(order, SHAPE) for order in itertools.permutations([GGO, DENSE, other])]
    for one in maps:
        np.testing.assert_array_equal(one, maps[0])
    assert maps[0].shape == SHAPE
    # Columns first: the overlap at columns and rows 7 and 8 is consolidation.
    assert maps[0][7, 7, 3] == LesionClass.CONSOLIDATION
    assert maps[0][5, 5, 3] == LesionClass.GROUND_GLASS_OPACITY
    assert np.count_nonzero(maps[0]) == 16 + 16 - 4
    assert not maps[0][:, :, [0, 1, 2, 4, 5]].any()


def test_between_equal_scores_the_denser_class_holds_the_voxel() -> None:
    even = instance(3, 5, 5, score=0.8, lesion_class=LesionClass.CONSOLIDATION)
    assert set(np.unique(label_map([even, GGO], SHAPE))) == {0, LesionClass.CONSOLIDATION}


def test_region_of_an_instance() -> None:
    assert instance_region(instance(2, column=7, row=9, size=(3, 5))) == (2, slice(9, 12), slice(7, 12))


def test_slices_first_turns_the_axes_round() -> None:
    volume = np.arange(24).reshape(2, 3, 4)
    turned = slices_first(volume)
    assert turned.shape == (4, 3, 2)
    assert turned[3, 2, 1] == volume[1, 2, 3]
    assert turned.flags.c_contiguous
