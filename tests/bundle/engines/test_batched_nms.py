"""Suppression of many groups at once keeps what torchvision's keeps in each."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import nms

from covid_ct_mask_net.engines import batched_nms
from covid_ct_mask_net.engines.batched_nms import greedy_nms


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("pairs", [1 << 26, 200_000], ids=["at once", "two groups at a time"])
def test_iterated_is_greedy(threshold: float, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_nms, "_PAIRS", pairs)
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(5, 300, 2, 2, generator=generator) * 60
    boxes = torch.cat([corners.amin(2), corners.amax(2)], dim=-1)
    valid = torch.rand(5, 300, generator=generator) < 0.8
    kept = greedy_nms(boxes, valid, threshold)
    for group, usable, found in zip(boxes, valid, kept, strict=True):
        places = torch.nonzero(usable)[:, 0]
        expected = places[nms(group[places], torch.arange(len(places), 0, -1).float(), threshold)]
        assert torch.equal(torch.nonzero(found)[:, 0], expected.sort().values)
    assert 0 < kept.sum() < valid.sum()


def test_boxes_without_area_or_numbers() -> None:
    boxes = torch.tensor([[[3.0, 3, 3, 3], [3, 3, 3, 3], [0, 0, 9, 9], [torch.nan] * 4, [0, 0, 9, 8]]])
    valid = torch.tensor([[True, True, True, False, True]])
    # As torchvision: two boxes without area have no overlap, not a whole one.
    assert nms(boxes[0, :2], torch.tensor([1.0, 0.5]), 0.5).tolist() == [0, 1]
    assert greedy_nms(boxes, valid, 0.5).tolist() == [[True, True, True, False, False]]
    assert greedy_nms(boxes[:, :0], valid[:, :0], 0.5).shape == (1, 0)
