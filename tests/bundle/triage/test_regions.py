from __future__ import annotations

import numpy as np

from builders.volumes import SHAPE, two_lungs
from covid_ct_mask_net.labels import Side, Zone
from covid_ct_mask_net.triage.regions import LungRegions


def test_thirds_follow_the_height_of_each_lung() -> None:
    lungs = two_lungs()
    lungs[24:36, :, :4] = 0  # the left lung begins at slice 4
    regions = LungRegions(lungs)
    assert regions.sides == (Side.RIGHT, Side.LEFT)
    right = [regions.zone_of(Side.RIGHT, index) for index in (0, 3, 4, 7, 8, 11)]
    assert right == [Zone.LOWER, Zone.LOWER, Zone.MIDDLE, Zone.MIDDLE, Zone.UPPER, Zone.UPPER]
    left = [regions.zone_of(Side.LEFT, index) for index in (4, 5, 6, 8, 9)]
    assert left == [Zone.LOWER, Zone.LOWER, Zone.MIDDLE, Zone.MIDDLE, Zone.UPPER]


def test_zone_slices_cover_everything_once() -> None:
    regions = LungRegions(two_lungs())
    counts = np.zeros(SHAPE[2], dtype=int)
    for zone in Zone:
        counts[regions.zone_slices(Side.RIGHT, zone)] += 1
    np.testing.assert_array_equal(counts, 1)


def test_voxels_outside_of_the_mask_go_to_the_nearer_side() -> None:
    regions = LungRegions(two_lungs())
    voxels = np.array([[10, 10, 5], [30, 10, 5], [17, 10, 5], [22, 10, 5], [2, 0, 0]])
    np.testing.assert_array_equal(regions.side_values(voxels), [1, 2, 1, 2, 1])


def test_one_lung_alone() -> None:
    lungs = two_lungs()
    lungs[lungs == 2] = 0
    regions = LungRegions(lungs)
    assert regions.sides == (Side.RIGHT,)
    np.testing.assert_array_equal(regions.side_values(np.array([[25, 10, 5]])), [2])
