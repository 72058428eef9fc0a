"""The compiled kernels against torch and torchvision."""

from __future__ import annotations

import errno
import logging

import numba
import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from covid_ct_mask_net.engines import kernels


def _boxes(count: int, side: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * side
    size = torch.rand(count, 2, generator=generator) ** 3 * side / 2
    boxes = torch.cat([corner, corner + size], 1)
    boxes[: count // 20, 2:] = boxes[: count // 20, :2]  # no area
    return boxes


@pytest.mark.parametrize("count", [1, 7, 1000, 5000])
def test_top_k(count: int) -> None:
    values = torch.randn(5000, generator=torch.Generator().manual_seed(count))
    expected = values.topk(count).indices
    assert np.array_equal(kernels.top_k(values.numpy(), count), expected.numpy())


def test_top_k_takes_the_first_of_equal_values_and_all_there_are() -> None:
    values = np.asarray([0.0, 1.0, -2.0, 1.0, 1.0, -0.5], np.float32)
    assert kernels.top_k(values, 2).tolist() == [1, 3]
    assert kernels.top_k(values, 99).tolist() == [1, 3, 4, 0, 5, 2]


def test_decoding_is_that_of_the_box_coder() -> None:
    boxes, deltas = _boxes(500, 300.0), 2 * torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    weights = (10.0, 10.0, 5.0, 5.0)
    expected = BoxCoder(weights).decode_single(deltas, boxes)
    expected = torchvision.ops.clip_boxes_to_image(expected, (280, 310))
    found = kernels.decode(
        boxes.numpy(), deltas.numpy(), np.asarray(weights, np.float32), np.float32(280), np.float32(310)
    )
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(4))
def test_nms(threshold: float, seed: int) -> None:
    boxes = _boxes(600, 100.0, seed)
    expected = torchvision.ops.nms(boxes, torch.arange(600, 0, -1).float(), threshold)
    found = kernels.nms(boxes.numpy(), np.float32(threshold), 600)
    assert np.array_equal(found, expected.numpy())
    assert len(found) < 600 or threshold == 0.75
    assert np.array_equal(kernels.nms(boxes.numpy(), np.float32(threshold), 10), found[:10])


@pytest.mark.parametrize("channels", [3, 256])
@pytest.mark.parametrize("side", [7, 14])
def test_roi_align_inside_and_outside_of_the_map(channels: int, side: int) -> None:
    features = torch.randn(1, channels, 24, 31, generator=torch.Generator().manual_seed(2))
    boxes = _boxes(60, 130.0) - 12.0
    expected = torchvision.ops.roi_align(features, [boxes], side, 0.25, sampling_ratio=2)
    pooled = np.full((60, side * side, channels), np.nan, np.float32)
    channels_last = np.ascontiguousarray(features[0].permute(1, 2, 0).numpy())
    places = np.arange(0, 60, 2)
    kernels.roi_align(channels_last, boxes.numpy(), np.float32(0.25), places, pooled, side)
    found = torch.from_numpy(pooled[places]).permute(0, 2, 1).reshape(-1, channels, side, side)
    assert torch.allclose(found, expected[places], atol=1e-4)
    assert np.isnan(pooled[1::2]).all(), "other regions stay as they were"


def test_regions_are_pooled_in_bfloat16_as_torch_rounds_them() -> None:
    features = np.random.default_rng(4).standard_normal((24, 31, 32)).astype(np.float32)
    # Halfway between two numbers of bfloat16, to either side.
    features[:2] = np.asarray([0x3F808000, 0x3F818000] * 16, np.uint32).view(np.float32)
    boxes, places = _boxes(40, 120.0).numpy(), np.arange(40)
    pooled, bits = np.zeros((40, 49, 32), np.float32), np.zeros((40, 49, 32), np.uint16)
    for into in (pooled, bits):
        kernels.roi_align(features, boxes, np.float32(0.25), places, into, 7)
    assert np.array_equal(torch.from_numpy(pooled).bfloat16().view(torch.uint16).numpy(), bits)


def test_roi_align_of_what_is_no_number_stays_inside() -> None:
    boxes = np.asarray([[np.nan] * 4, [0, 0, np.inf, np.inf]], np.float32)
    pooled = np.zeros((2, 49, 4), np.float32)
    kernels.roi_align(np.ones((8, 8, 4), np.float32), boxes, np.float32(1), np.arange(2), pooled, 7)


def test_anchors_are_those_of_torchvision() -> None:
    generator = AnchorGenerator(((2, 8),), ((0.25, 1.0),))
    images = ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)])
    (expected,) = generator(images, [torch.zeros(1, 1, 4, 6)])
    places = np.asarray([0, 3, 50, 95])
    found = kernels.level_anchors(
        generator.cell_anchors[0].numpy(), places, 6, np.asarray([16, 16], np.float32)
    )
    assert np.array_equal(found, expected[places].numpy())


def test_softmax_and_small_boxes() -> None:
    logits = torch.randn(50, 3, generator=torch.Generator().manual_seed(3)) * 20
    expected = torch.softmax(logits, 1)
    assert torch.allclose(torch.from_numpy(kernels.softmax(logits.numpy())), expected, atol=1e-6)
    boxes = np.asarray([[0, 0, 2, 1], [0, 0, 2, 2], [0, 0, np.nan, 2]], np.float32)
    assert kernels.at_least(boxes, np.float32(2)).tolist() == [1]


@pytest.mark.parametrize("failing", ["save", "load"])
def test_a_disk_that_fails_leaves_the_kernels_at_work_with_one_warning(
    failing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk fails when machine code is written, at the first call; a file cut off when it is read."""

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device") if failing == "save" else EOFError

    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, failing, fails)
    if failing == "save":
        monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "load", lambda *_: None)
    kernels._warn.cache_clear()

    def doubled(value: float) -> float:
        return 2.0 * value

    def tripled(value: float) -> float:
        return 3.0 * value

    with caplog.at_level(logging.WARNING):
        assert kernels._kernel(doubled)(2.0) == 4.0
        assert kernels._kernel(tripled)(2.0) == 6.0
    kernels._warn.cache_clear()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Make room" in caplog.text


def test_machine_code_is_kept_and_read_back() -> None:
    def halved(value: float) -> float:
        return value / 2.0

    first, second = kernels._kernel(halved), kernels._kernel(halved)
    assert first(4.0) == second(4.0) == 2.0
    assert sum(second.stats.cache_hits.values()) == 1  # type: ignore[attr-defined]


def test_without_a_place_for_machine_code_kernels_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_place(*_: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(kernels, "_MachineCode", no_place)

    def squared(value: float) -> float:
        return value * value

    assert kernels._kernel(squared)(3.0) == 9.0
