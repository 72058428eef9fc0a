"""N rows, ranked, whatever the network finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from builders.networks import random_slices, small_s, small_trunk
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.ranked_rows import fill_rows, ranked_rows
from covid_ct_mask_net.networks.regions import Regions

SIZE = (64, 64)


@pytest.fixture(scope="module")
def network() -> CovidCTMaskNet:
    torch.manual_seed(0)
    return CovidCTMaskNet(small_trunk(), small_s()).eval()


def _rows(count: int) -> Tensor:
    return torch.arange(count, 0.0, -1)[:, None].expand(-1, 5).clone()


def _regions(boxes: Tensor, logits: Tensor, deltas: Tensor) -> Regions:
    return Regions({}, [boxes], logits, deltas, [SIZE], [SIZE])


def _far_apart(count: int) -> Tensor:
    corner = 6.0 * torch.arange(count)
    x, y = corner % 60, 6 * (corner // 60)
    return torch.stack([x, y, x + 4, y + 4], 1)


@pytest.mark.parametrize(
    ("found", "count", "expected"),
    [
        (2, 5, [0, 0, 0, 1, 1]),
        (3, 5, [0, 0, 1, 1, 2]),
        (1, 4, [0, 0, 0, 0]),
        (5, 5, [0, 1, 2, 3, 4]),
    ],
)
def test_few_rows_are_stretched_in_order(found: int, count: int, expected: list[int]) -> None:
    rows = _rows(found)
    filled = fill_rows(rows, count)
    assert torch.equal(filled, rows[expected])
    assert torch.equal(filled, fill_rows(rows, count)), "the fill is the same each time"


def test_every_row_found_appears_in_the_fill() -> None:
    for found in range(1, 17):
        filled = fill_rows(_rows(found), 16)
        assert len(filled) == 16
        assert torch.equal(filled.unique_consecutive(dim=0), _rows(found))


def test_a_slice_without_regions_gets_zeros() -> None:
    assert torch.equal(fill_rows(torch.empty(0, 5), 7), torch.zeros(7, 5))


def test_rows_are_the_scores_and_encoded_boxes_by_rank(network: CovidCTMaskNet) -> None:
    generator = torch.Generator().manual_seed(3)
    boxes = _far_apart(20)
    logits = torch.randn(20, 3, generator=generator)
    deltas = 0.1 * torch.randn(20, 12, generator=generator)
    (rows,) = ranked_rows(network, _regions(boxes, logits, deltas), 16)
    scores = logits.softmax(1)
    pairs = [(float(scores[r, c]), deltas[r, 4 * c : 4 * c + 4]) for r in range(20) for c in (1, 2)]
    pairs.sort(key=lambda pair: -pair[0])
    assert rows[:, 0].tolist() == [score for score, _ in pairs[:16]]
    assert torch.equal(rows[:, 1:], torch.stack([delta for _, delta in pairs[:16]]))


def test_any_score_is_accepted(network: CovidCTMaskNet) -> None:
    """The threshold of -0.01 lies below any score, also below one that rounds to zero."""
    boxes = _far_apart(8)
    logits = torch.tensor([200.0, 0.0, 0.0]).expand(8, -1)
    (rows,) = ranked_rows(network, _regions(boxes, logits, torch.arange(96.0).view(8, 12) * 1e-3), 16)
    assert (rows[:, 0] == 0).all()
    assert len(rows.unique(dim=0)) == 16, "all 8 regions of both classes"


def test_ties_keep_the_order_of_proposals(network: CovidCTMaskNet) -> None:
    boxes = _far_apart(16)
    deltas = torch.arange(16.0)[:, None].expand(-1, 12) * 1e-3
    logits = torch.tensor([0.0, 1.0, -40.0]).expand(16, -1)
    (rows,) = ranked_rows(network, _regions(boxes, logits, deltas), 16)
    assert torch.equal(rows[:, 1], deltas[:, 0])


def test_overlapping_boxes_of_one_class_are_suppressed(network: CovidCTMaskNet) -> None:
    boxes = torch.tensor([[10.0, 10, 40, 40], [10, 10, 40, 41], [10, 10, 20, 40]])
    logits = torch.tensor([[0.0, 3, 1], [0.0, 2, 1.5], [0.0, 1, 0.5]])
    (rows,) = ranked_rows(network, _regions(boxes, logits, torch.zeros(3, 12)), 4)
    # GGO loses the second box, consolidation the first.
    scores = logits.softmax(1)
    kept = sorted([float(scores[i, c]) for i, c in ((0, 1), (2, 1), (1, 2), (2, 2))], reverse=True)
    assert rows[:, 0].tolist() == kept


def test_boxes_of_no_area_are_dropped(network: CovidCTMaskNet) -> None:
    boxes = torch.tensor([[10.0, 10, 40, 10], [70, 5, 90, 20], [10, 10, 20, 30]])
    logits = torch.tensor([[0.0, 3, -50], [0.0, 2, -50], [0.0, 1, -50]])
    (rows,) = ranked_rows(network, _regions(boxes, logits, torch.zeros(3, 12)), 4)
    # Flat as proposed, outside the slice once clipped; the third remains (its second class last).
    assert rows[0, 0] == logits.softmax(1)[2, 1]
    assert len(rows[:, 0].unique()) == 2
    (empty,) = ranked_rows(network, _regions(boxes[:1], logits[:1], torch.zeros(1, 12)), 4)
    assert torch.equal(empty, torch.zeros(4, 5))


@pytest.mark.parametrize("where", ["class_logits", "box_regression", "proposals"])
def test_no_numbers_in_no_numbers_out(network: CovidCTMaskNet, where: str) -> None:
    parts: dict[str, Any] = {
        "proposals": [_far_apart(3)], "class_logits": torch.zeros(3, 3), "box_regression": torch.zeros(3, 12),
    }  # fmt: skip
    if where == "proposals":  # non-finite proposals are dropped by torchvision: none is left
        parts = {"proposals": [torch.empty(0, 4)], "class_logits": torch.empty(0, 3)}
        parts["box_regression"] = torch.empty(0, 12)
    else:
        parts[where][1, 1] = torch.nan
    regions = Regions(features={}, image_sizes=[SIZE], original_sizes=[SIZE], **parts)
    assert ranked_rows(network, regions, 4).isnan().all()


@torch.no_grad()
def test_exactly_n_rows_come_out_of_a_slice(network: CovidCTMaskNet) -> None:
    rows = network.rows(random_slices((64, 64), (90, 70)))
    assert rows.shape == (2, 16, 5)
    assert (rows[:, :-1, 0] >= rows[:, 1:, 0]).all()
    network.roi_heads.nms_thresh, before = 0.0, network.roi_heads.nms_thresh
    try:
        few = network.rows(random_slices((64, 64)))
    finally:
        network.roi_heads.nms_thresh = before
    assert few.shape == (1, 16, 5)
    assert (few[:, :-1, 0] >= few[:, 1:, 0]).all()
