"""Scores that count how sure the masks are."""

from __future__ import annotations

import pytest
import torch

from builders.networks import random_slices, small_trunk
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.maskness import maskness, score_by_masks


def _masks(*values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values).reshape(len(values), 1, 2, 2)


def test_the_mean_of_what_is_inside() -> None:
    masks = _masks((0.9, 0.7, 0.1, 0.0), (0.5, 0.4, 0.4, 0.4), (0.4, 0.3, 0.2, 0.1))
    assert maskness(masks).tolist() == pytest.approx([0.8, 0.5, 0.0])
    assert maskness(masks[:0]).shape == (0,)


def test_detections_are_ranked_and_cut_by_the_product() -> None:
    found = {
        "scores": torch.tensor([0.9, 0.8, 0.7, 0.6]),
        "masks": _masks((0.6,) * 4, (1.0,) * 4, (0.1,) * 4, (0.9, 0.9, 0.0, 0.0)),
        "labels": torch.tensor([1, 2, 1, 2]),
        "boxes": torch.arange(4.0)[:, None].expand(-1, 4),
    }
    scored = score_by_masks(found, 0.54)
    assert scored["scores"].tolist() == pytest.approx([0.8, 0.54, 0.54])
    assert scored["labels"].tolist() == [2, 1, 2]
    assert scored["boxes"][:, 0].tolist() == [1, 0, 3]
    assert len(score_by_masks(found, 0.6)["masks"]) == 1


@torch.no_grad()
def test_a_detector_that_counts_them_differs_from_the_papers_in_nothing_else() -> None:
    torch.manual_seed(2)
    plain = LesionDetector(small_trunk(roi_score=0.25)).eval()
    counting = LesionDetector(small_trunk(roi_score=0.25, maskness=True)).eval()
    counting.load_state_dict(plain.state_dict())
    slices = random_slices((64, 64), (70, 90))
    dropped = 0
    for before, after in zip(plain(slices), counting(slices), strict=True):
        assert len(after["scores"])
        assert (after["scores"].diff() <= 0).all()
        assert (after["scores"] >= 0.25).all()
        dropped += len(before["scores"]) - len(after["scores"])
        for score, box, mask in zip(after["scores"], after["boxes"], after["masks"], strict=True):
            (place,) = torch.nonzero((before["boxes"] == box).all(1))[:, 0]
            assert torch.equal(before["masks"][place], mask)
            assert 0.5 <= score / before["scores"][place] <= 1
    assert dropped > 0, "some fall below the threshold"
