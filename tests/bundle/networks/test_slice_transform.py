"""The resize of 2020, and ImageNet's normalisation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from builders.networks import random_slices
from covid_ct_mask_net.networks.settings import DetectorSettings
from covid_ct_mask_net.networks.slice_transform import SliceTransform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def transform() -> SliceTransform:
    return SliceTransform(DetectorSettings()).eval()


@pytest.fixture(scope="module")
def today() -> GeneralizedRCNNTransform:
    return GeneralizedRCNNTransform(512, 1024, list(MEAN), list(STD)).eval()


def _normalised(image: torch.Tensor) -> torch.Tensor:
    return torch.stack([(image[0] - m) / s for m, s in zip(MEAN, STD, strict=True)])


@pytest.mark.parametrize("shape", [(400, 512), (768, 1024), (300, 700), (123, 457)])
def test_slices_are_interpolated_by_the_scale_itself(
    transform: SliceTransform, shape: tuple[int, int]
) -> None:
    (image,) = random_slices(shape)
    scale = min(512 / min(shape), 1024 / max(shape))
    expected = functional.interpolate(
        _normalised(image)[None], scale_factor=scale, mode="bilinear", recompute_scale_factor=False
    )[0]
    batch, _ = transform([image])
    height, width = batch.image_sizes[0]
    assert (height, width) == tuple(expected.shape[-2:])
    assert torch.equal(batch.tensors[0, :, :height, :width], expected)


@pytest.mark.parametrize("shape", [(512, 512), (512, 600), (256, 256), (1024, 1024), (128, 192)])
def test_equal_to_torchvision_where_sizes_divide(
    transform: SliceTransform, today: GeneralizedRCNNTransform, shape: tuple[int, int]
) -> None:
    (image,) = random_slices(shape)
    assert torch.equal(transform([image])[0].tensors, today([image.expand(3, -1, -1)])[0].tensors)


def test_not_equal_to_torchvision_elsewhere(
    transform: SliceTransform, today: GeneralizedRCNNTransform
) -> None:
    (image,) = random_slices((400, 513))
    difference = transform([image])[0].tensors - today([image.expand(3, -1, -1)])[0].tensors
    assert difference.abs().max() > 1e-3


def test_resized_shape_is_the_one_that_comes_out(transform: SliceTransform) -> None:
    # 98 and 103: 98 * (512 / 98) lies just below 512.
    for shape in [(98, 98), (103, 250), (512, 512), (333, 901), (100, 1300), (768, 512)]:
        resized, _ = transform.resize(torch.zeros(1, *shape))
        assert tuple(resized.shape[-2:]) == transform.resized_shape(*shape)


def test_targets_follow_and_may_be_empty(transform: SliceTransform) -> None:
    masks = torch.zeros(1, 256, 128, dtype=torch.uint8)
    masks[0, 64:128, 32:64] = 1
    target = {"boxes": torch.tensor([[32.0, 64.0, 64.0, 128.0]]), "masks": masks}
    image, moved = transform.resize(torch.zeros(1, 256, 128), target)
    assert image.shape == (1, 1024, 512)
    assert moved is not None
    assert moved["boxes"].tolist() == [[128.0, 256.0, 256.0, 512.0]]
    rows, columns = moved["masks"][0].nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (256, 511, 128, 255)
    empty = {"boxes": torch.zeros(0, 4), "masks": torch.zeros(0, 256, 128, dtype=torch.uint8)}
    _, moved = transform.resize(torch.zeros(1, 256, 128), empty)
    assert moved is not None
    assert moved["masks"].shape == (0, 1024, 512)


@pytest.mark.parametrize(
    ("shape", "offset", "side"), [((512, 512), 96, 256), ((768, 768), 96, 240), ((400, 512), 100, 200)]
)
def test_a_crop_keeps_the_scale_of_its_slice(
    transform: SliceTransform, shape: tuple[int, int], offset: int, side: int
) -> None:
    (image,) = random_slices(shape)
    crop = image[:, offset : offset + side, offset : offset + side]
    scale = transform.scale_of(*shape)
    (whole, _), (cut, _) = (
        transform([image]),
        transform([crop], [{"scale": torch.tensor(scale, dtype=torch.float64)}]),
    )
    height, width = cut.image_sizes[0]
    assert (height, width) == transform.resized_shape(side, side, scale)
    assert (height, width) == (round(side * scale),) * 2
    start = round(offset * scale)
    expected = whole.tensors[:, :, start : start + height, start : start + width]
    found = cut.tensors[:, :, :height, :width]
    # At its border a crop cannot know its neighbours.
    assert torch.allclose(found[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2], atol=1e-3)
    assert transform.resized_shape(side, side) != (height, width), "without the scale it would be enlarged"


def test_the_scale_comes_with_the_target_in_training(transform: SliceTransform) -> None:
    masks = torch.zeros(1, 96, 64, dtype=torch.uint8)
    masks[0, 12:24, 6:12] = 1
    target = {"boxes": torch.tensor([[6.0, 12.0, 12.0, 24.0]]), "masks": masks, "scale": torch.tensor(2.0)}
    given = dict(target)
    batch, moved = transform([torch.rand(1, 96, 64)], [target])
    assert batch.image_sizes == [(192, 128)]
    assert moved is not None
    assert moved[0]["boxes"].tolist() == [[12.0, 24.0, 24.0, 48.0]]
    assert moved[0]["masks"].shape == (1, 192, 128)
    assert "scale" not in moved[0]
    assert target.keys() == given.keys(), "the caller's target stays as it was"
