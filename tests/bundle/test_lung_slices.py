"""Slices cut out of the volume when they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from covid_ct_mask_net.lung_slices import LungSlices
from covid_ct_mask_net.slice_crop import SliceCrop

X, Y, Z = torch.meshgrid(torch.arange(4), torch.arange(3), torch.arange(5), indexing="ij")
VOLUME = (X + 10 * Y + 100 * Z).to(torch.int16)
WHOLE = SliceCrop(0, 0, 3, 4, 3, 4)


def test_they_are_what_a_tensor_of_them_would_be() -> None:
    slices = LungSlices(VOLUME, [1, 3, 4], WHOLE)
    tensor = VOLUME.permute(2, 1, 0)[[1, 3, 4]][:, None].float()
    assert slices.shape == tensor.shape
    assert len(slices) == 3
    assert torch.equal(slices[:], tensor)
    assert torch.equal(slices[1:], tensor[1:])
    assert torch.equal(slices[[2, 0]], tensor[[2, 0]])
    assert torch.equal(slices[1], tensor[1])
    assert slices[[]].shape == (0, 1, 3, 4)
    with pytest.raises(IndexError):
        slices[3]


def test_places_may_be_numbers_of_numpy_and_torch() -> None:
    slices = LungSlices(VOLUME, [1, 3, 4], WHOLE)
    for one in (np.int64(1), torch.tensor(1)):
        assert torch.equal(slices[one], slices[1])
    for several in (np.asarray([2, 0]), torch.tensor([2, 0]), [np.int64(2), np.int64(0)]):
        assert torch.equal(slices[several], slices[[2, 0]])  # type: ignore[index]
    with pytest.raises(TypeError):
        slices[1.0]  # type: ignore[index]


def test_only_the_box_is_cut_out() -> None:
    slices = LungSlices(VOLUME, [2], SliceCrop(1, 2, 2, 1, 3, 4))
    assert slices.shape == (1, 1, 2, 1)
    assert slices[0].flatten().tolist() == [212.0, 222.0]


def test_values_are_scaled_one_slice_at_a_time_and_once() -> None:
    shapes = []

    def scale(image: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(image.shape))
        return image / 2

    slices = LungSlices(VOLUME, [0, 1], WHOLE)
    half = slices.scaled(scale)
    assert torch.equal(half[:], slices[:] / 2)
    assert shapes == [(1, 3, 4)] * 2
    with pytest.raises(ValueError, match="scaled already"):
        half.scaled(scale)
