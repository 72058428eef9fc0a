"""The box that is read of each slice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.slice_crop import SliceCrop, lung_box
from covid_ct_mask_net.transforms import ExtractLungSlicesd


def _lungs(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (512, 512)) -> np.ndarray:
    """One slice a box (top, bottom, left, right)."""
    lungs = np.zeros((len(boxes), *shape), bool)
    for lung, (top, bottom, left, right) in zip(lungs, boxes, strict=True):
        lung[top:bottom, left:right] = True
    return lungs


def test_one_box_holds_the_lungs_of_all_slices_with_the_margin() -> None:
    box = lung_box(_lungs((200, 300, 100, 200), (150, 260, 190, 380)), margin=(10, 12))
    assert box.top <= 140
    assert box.top + box.height >= 310
    assert box.left <= 88
    assert box.left + box.width >= 392
    assert (box.height, box.width) == (192, 320)
    assert (box.full_height, box.full_width) == (512, 512)
    assert box.share == pytest.approx(192 * 320 / 512**2)


@pytest.mark.parametrize("seed", range(20))
def test_the_box_lies_inside_and_holds_the_lungs_wherever_they_are(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(40, 600, 2).tolist())
    top, bottom = sorted(random.choice(shape[0] + 1, 2, replace=False).tolist())
    left, right = sorted(random.choice(shape[1] + 1, 2, replace=False).tolist())
    lungs = _lungs((top, bottom, left, right), shape=shape)
    box = lung_box(lungs, margin=(5, 5))
    inside = lungs[:, box.top : box.top + box.height, box.left : box.left + box.width]
    assert inside.sum() == lungs.sum()
    for length, full in ((box.height, shape[0]), (box.width, shape[1])):
        assert length % 32 == 0 or length == full


def test_no_lungs_no_crop() -> None:
    assert lung_box(_lungs((0, 0, 0, 0), shape=(96, 64)), (0, 0)) == SliceCrop(0, 0, 96, 64, 96, 64)


def test_a_box_outside_of_the_slice_is_a_defect() -> None:
    with pytest.raises(ValueError, match="does not lie"):
        SliceCrop(10, 0, 60, 64, 64, 64)


def _volume() -> dict[str, MetaTensor]:
    lungs = torch.zeros(1, 200, 160, 3, dtype=torch.uint8)  # X, Y, Z
    lungs[:, 60:150, 50:90, 1:] = 1
    image = torch.arange(200 * 160 * 3, dtype=torch.float32).reshape(1, 200, 160, 3)
    affine = torch.eye(4, dtype=torch.float64)
    return {"image": MetaTensor(image, affine=affine), "lung_mask": MetaTensor(lungs, affine=affine)}


def test_slices_are_cut_from_where_the_box_says() -> None:
    whole = ExtractLungSlicesd()(_volume())
    assert whole["slice_crop"] == SliceCrop(0, 0, 160, 200, 160, 200)
    cut = ExtractLungSlicesd(crop="lungs")(_volume())
    box = cut["slice_crop"]
    assert (box.height, box.width) == (64, 128)
    expected = whole["slices"][:][:, :, box.top : box.top + box.height, box.left : box.left + box.width]
    assert torch.equal(cut["slices"][:], expected)
    assert torch.equal(cut["slice_indices"], whole["slice_indices"])
    assert cut["slice_indices"].tolist() == [1, 2]


def test_an_unknown_crop_is_refused() -> None:
    with pytest.raises(UsageError, match="'body'"):
        ExtractLungSlicesd(crop="body")
