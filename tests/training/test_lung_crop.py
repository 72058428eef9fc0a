"""Crops to the lungs."""

from __future__ import annotations

import numpy as np
import torch

from builders.lesion_data import chest_slice
from covid_ct_mask_net.training.datasets.records import IMAGE, MASK
from covid_ct_mask_net.training.lung_crop import WHOLE_SHAPE, RandLungCropd, lung_box


def _slice(side: int = 256) -> dict[str, torch.Tensor]:
    image = torch.from_numpy(chest_slice(3, side=side))[None].float() / 255
    mask = torch.zeros(1, side, side, dtype=torch.uint8)
    mask[:, 120:140, 60:80] = 1
    return {IMAGE: image, MASK: mask}


def test_lungs_are_found_and_outer_air_is_not() -> None:
    image = _slice()[IMAGE][0].numpy()
    # The ellipses of the builder: half axes 0.28 and 0.15, centres 0.2 beside the middle.
    box = lung_box(image)
    assert box is not None
    assert np.abs(np.subtract(box, np.multiply(255, (0.22, 0.78, 0.15, 0.85)))).max() <= 2


def test_crops_hold_lungs_and_lesions_in_whole_steps() -> None:
    data = _slice()
    crop = RandLungCropd(1.0).set_random_state(4)
    shapes = set()
    for _ in range(5):
        result = crop(data)
        height, width = result[IMAGE].shape[-2:]
        assert height % 32 == 0
        assert width % 32 == 0
        assert (height, width) != (256, 256)
        assert result[MASK].shape == result[IMAGE].shape
        assert result[MASK].sum() == data[MASK].sum()
        assert result[WHOLE_SHAPE] == (256, 256)
        shapes.add((height, width))
    assert len(shapes) >= 1


def test_lesions_outside_the_found_lungs_stay_in_the_crop() -> None:
    data = _slice()
    data[MASK][:, 10:20, 5:15] = 2
    result = RandLungCropd(1.0).set_random_state(0)(data)
    assert result[MASK].sum() == data[MASK].sum()
    assert result[IMAGE].shape != data[IMAGE].shape


def test_slices_without_lungs_stay_whole() -> None:
    data = {IMAGE: torch.full((1, 64, 80), 0.9)}
    result = RandLungCropd(1.0)(data)
    assert result[IMAGE].shape == (1, 64, 80)
    assert result[WHOLE_SHAPE] == (64, 80)
    assert lung_box(np.zeros((64, 64))) is None


def test_probability_zero_crops_nothing() -> None:
    data = _slice()
    assert RandLungCropd(0.0)(data)[IMAGE].shape == data[IMAGE].shape
