"""Canonical orientation: left is left and head is head, however the source was stored."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from builders.dicom import MARKER_HU, phantom_hu
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.geometry import voxel_spacing
from covid_ct_mask_net.transforms.orientation import (
    CanonicalOrientationd,
    canonical_axes,
    to_canonical,
    to_source,
)

# Slices to superior, rows to posterior, columns to the left -> canonical [X, Y, Z].
CANONICAL = torch.from_numpy(phantom_hu((12, 20, 16)).transpose(2, 1, 0).copy())[None]
AFFINE = np.array([[-1.5, 0, 0, 30], [0, -2.0, 0, 40], [0, 0, 5.0, -70], [0, 0, 0, 1]])
ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
IDS = ["".join(map(str, order)) + "".join("+-"[s < 0] for s in signs) for order, signs in ORDERS]


def _stored(order: tuple[int, ...], signs: tuple[int, ...], affine: np.ndarray = AFFINE) -> MetaTensor:
    """Store the canonical phantom with other axes; the affine still says where each voxel lies."""
    array = CANONICAL.permute(0, *(1 + axis for axis in order))
    flipped = [1 + axis for axis in range(3) if signs[axis] < 0]
    array = torch.flip(array, flipped) if flipped else array
    change = np.zeros((4, 4))
    change[3, 3] = 1.0
    for axis, (source, sign) in enumerate(zip(order, signs, strict=True)):
        change[source, axis] = sign
        change[source, 3] += (array.shape[1 + axis] - 1) if sign < 0 else 0
    return MetaTensor(array, affine=torch.as_tensor(affine @ change))


@pytest.mark.parametrize(("order", "signs"), ORDERS, ids=IDS)
def test_all_48_ways_to_store_a_volume_give_the_same_canonical_one(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    stored = _stored(order, signs)
    canonical = to_canonical(stored)
    assert torch.equal(canonical.as_tensor(), CANONICAL)
    assert np.allclose(canonical.affine, AFFINE)
    back = to_source(canonical)
    assert torch.equal(back.as_tensor(), stored.as_tensor())
    assert np.array_equal(np.asarray(back.affine), np.asarray(stored.affine))


@pytest.mark.parametrize("degrees", [-25.0, 12.0, 40.0])
def test_an_oblique_volume_goes_to_the_nearest_axes_and_keeps_its_obliqueness(degrees: float) -> None:
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    for order, signs in ORDERS[::7]:
        canonical = to_canonical(_stored(order, signs, turn @ AFFINE))
        assert torch.equal(canonical.as_tensor(), CANONICAL)
        assert np.allclose(canonical.affine, turn @ AFFINE)


def test_left_is_left_anterior_is_anterior_and_head_is_head() -> None:
    """The phantom's one marker stands left, anterior and superior."""
    canonical = to_canonical(_stored((2, 0, 1), (-1, 1, -1)))
    marker = np.argwhere(canonical[0].numpy() == MARKER_HU).mean(axis=0)
    middle = (np.asarray(canonical.shape[1:]) - 1) / 2
    assert marker[0] > middle[0]
    assert marker[1] < middle[1]
    assert marker[2] > middle[2]
    x, y, z, _ = np.asarray(canonical.affine) @ [*marker, 1.0]
    centre_x, centre_y, centre_z, _ = np.asarray(canonical.affine) @ [*middle, 1.0]
    # RAS: the left is negative x, anterior is positive y.
    assert x < centre_x
    assert y > centre_y
    assert z > centre_z


def test_voxels_and_spacing_are_kept() -> None:
    canonical = to_canonical(_stored((1, 2, 0), (1, -1, 1)))
    assert voxel_spacing(np.asarray(canonical.affine)) == pytest.approx((1.5, 2.0, 5.0))
    assert canonical.dtype == CANONICAL.dtype


def test_the_letters_of_the_reader_do_not_matter() -> None:
    """MONAI's Orientation flips volumes whose meta data lack ``space``; this one goes by the affine alone."""
    plain, told = _stored((0, 1, 2), (-1, -1, 1)), _stored((0, 1, 2), (-1, -1, 1))
    told.meta["space"] = "LPS"
    assert torch.equal(to_canonical(plain).as_tensor(), to_canonical(told).as_tensor())


def test_the_mask_of_a_canonical_volume_goes_back_with_it() -> None:
    stored = _stored((1, 2, 0), (-1, 1, -1))
    canonical = to_canonical(stored)
    mask = MetaTensor(
        (canonical.as_tensor() == MARKER_HU).to(torch.uint8), affine=canonical.affine, meta=canonical.meta
    )
    back = to_source(mask)
    assert back.dtype == torch.uint8
    assert torch.equal(back.as_tensor() > 0, stored.as_tensor() == MARKER_HU)


def test_other_entries_are_left_alone_and_missing_ones_may_be_allowed() -> None:
    data = {"volume": _stored((0, 1, 2), (1, 1, 1)), "source_key": "abc"}
    moved = CanonicalOrientationd(keys="volume")(data)
    assert moved["source_key"] == "abc"
    assert moved is not data
    assert CanonicalOrientationd(keys="volume", allow_missing_keys=True)({"other": 1}) == {"other": 1}
    with pytest.raises(KeyError):
        CanonicalOrientationd(keys="volume")({"other": 1})


@pytest.mark.parametrize(
    ("shape", "found"),
    [((2, 8, 8, 8), "2 channels"), ((1, 8, 8), "8 x 8"), ((1, 8, 8, 8, 4), "8 x 8 x 8 x 4")],
)
def test_what_is_no_volume_is_refused(shape: tuple[int, ...], found: str) -> None:
    with pytest.raises(RefusedInputError, match=found) as caught:
        to_canonical(MetaTensor(torch.zeros(shape), affine=torch.eye(4)))
    assert caught.value.code == "NIFTI_DIMENSIONS"


@pytest.mark.parametrize("defect", ["zero spacing", "flat", "nan"])
def test_an_affine_without_inverse_is_refused(defect: str) -> None:
    affine = AFFINE.copy()
    if defect == "zero spacing":
        affine[:, 2] = [0, 0, 0, 0]
    elif defect == "flat":
        affine[:3, 2] = affine[:3, 0]
    else:
        affine[0, 0] = np.nan
    with pytest.raises(RefusedInputError, match="affine") as caught:
        to_canonical(MetaTensor(CANONICAL, affine=torch.as_tensor(affine)))
    assert caught.value.code == "NIFTI_AFFINE"


def test_axes_of_a_golden_affine() -> None:
    """A NIfTI in RAS: x and y are flipped to reach L and P, z stays."""
    assert canonical_axes(np.diag([1.0, 1.0, 2.0, 1.0])) == ((0, 1, 2), (-1, -1, 1))
    # Sagittal acquisition: the third index runs to the left, the first to posterior, the second to inferior.
    sagittal = np.array([[0, 0, -3.0, 0], [-1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]])
    assert canonical_axes(sagittal) == ((2, 0, 1), (1, 1, -1))
