"""Sides and thirds of the lungs."""

from __future__ import annotations

import numpy as np
import pytest

from builders.evidence import two_lungs
from covid_ct_mask_net.labels import Side, Zone
from covid_ct_mask_net.triage.regions import LungRegions

# Right lung on slices 0 to 8: thirds 0-2, 3-5, 6-8; left on 3 to 11: 3-5, 6-8, 9-11.
REGIONS = LungRegions(two_lungs())


@pytest.mark.parametrize(
    ("side", "index", "zone"),
    [
        (Side.RIGHT, 0, Zone.LOWER),
        (Side.RIGHT, 2, Zone.LOWER),
        (Side.RIGHT, 2.99, Zone.LOWER),
        (Side.RIGHT, 3, Zone.MIDDLE),
        (Side.RIGHT, 6, Zone.UPPER),
        (Side.RIGHT, 99, Zone.UPPER),
        (Side.LEFT, 0, Zone.LOWER),
        (Side.LEFT, 5, Zone.LOWER),
        (Side.LEFT, 6, Zone.MIDDLE),
        (Side.LEFT, 9, Zone.UPPER),
    ],
)
def test_each_lung_has_its_own_thirds(side: Side, index: float, zone: Zone) -> None:
    assert REGIONS.zone_of(side, index) is zone


@pytest.mark.parametrize("side", list(Side))
def test_thirds_cover_all_slices_once(side: Side) -> None:
    slices = np.arange(12)
    parts = [slices[REGIONS.zone_slices(side, zone)] for zone in (Zone.LOWER, Zone.MIDDLE, Zone.UPPER)]
    assert np.array_equal(np.concatenate(parts), slices)
    for zone, part in zip((Zone.LOWER, Zone.MIDDLE, Zone.UPPER), parts, strict=True):
        assert all(REGIONS.zone_of(side, index) is zone for index in part)


def test_sides_are_the_patients() -> None:
    """The first index grows to the patient's left; outside of the lungs the plane between them decides."""
    voxels = np.array([[5, 10, 4], [30, 10, 4], [0, 0, 0], [39, 0, 0], [19, 10, 4], [20, 10, 4]])
    assert REGIONS.side_values(voxels).tolist() == [1, 2, 1, 2, 1, 2]
    assert REGIONS.sides == (Side.RIGHT, Side.LEFT)


def test_the_lung_decides_even_across_the_middle() -> None:
    lungs = two_lungs()
    lungs[24:28, 5:8, 4] = 1
    assert LungRegions(lungs).side_values(np.array([[25, 6, 4]])).tolist() == [1]


def test_one_lung_alone() -> None:
    lungs = two_lungs()
    lungs[lungs == 2] = 0
    regions = LungRegions(lungs)
    assert regions.sides == (Side.RIGHT,)
    assert regions.side_values(np.array([[19, 0, 0], [20, 0, 0]])).tolist() == [1, 2]
    assert regions.zone_of(Side.LEFT, 5) is Zone.LOWER


def test_the_lungs_stay_as_they_were() -> None:
    lungs = two_lungs()
    LungRegions(lungs).side_values(np.array([[0, 0, 0]]))
    assert np.array_equal(lungs, two_lungs())
