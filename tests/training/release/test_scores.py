from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training.release.detector import SHIPPED_DETECTOR
from covid_ct_mask_net.training.release.scores import best_threshold, move_scores


class Timid(nn.Module):
    """Finds the lesion with score 0.3 and a false one with score 0.2."""

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        masks = torch.zeros(2, 1, *images[0].shape[-2:])
        masks[0, 0, 4:10, 4:10] = 1
        masks[1, 0, 14:19, 14:19] = 1
        return [{"masks": masks, "scores": torch.tensor([0.3, 0.2]), "labels": torch.tensor([1, 1])}]


def test_the_threshold_lies_between_the_true_and_the_false() -> None:
    image, truth = np.zeros((20, 20), dtype=np.float32), np.zeros((20, 20), dtype=np.uint8)
    truth[4:10, 4:10] = 1
    threshold = best_threshold(Timid(), [("a", "a", image, truth)])  # type: ignore[arg-type]
    assert 0.2 < threshold <= 0.3


def test_scores_move_to_one_half() -> None:
    torch.manual_seed(0)
    detector = LesionDetector(SHIPPED_DETECTOR).eval()
    bias = detector.roi_heads.box_predictor.cls_score.bias
    before = bias.detach().clone()
    move_scores(detector, 0.2)
    logits = torch.log(torch.tensor([0.8, 0.2]))
    moved = torch.softmax(logits + (bias - before)[:2], dim=0)
    assert float(moved[1]) == pytest.approx(0.5)
    assert torch.equal(bias[1:], before[1:])
    with pytest.raises(ValueError, match="threshold"):
        move_scores(detector, 1.0)
