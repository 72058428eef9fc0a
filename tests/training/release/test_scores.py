from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from builders.networks import CARD, small_model
from covid_ct_mask_net.checkpoints import load_segmentation, save_checkpoint
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import light_detector_settings
from covid_ct_mask_net.training.release import scores
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
    detector = LesionDetector(light_detector_settings()).eval()
    bias = detector.roi_heads.box_predictor.cls_score.bias
    before = bias.detach().clone()
    move_scores(detector, 0.2)
    logits = torch.log(torch.tensor([0.8, 0.2]))
    moved = torch.softmax(logits + (bias - before)[:2], dim=0)
    assert float(moved[1]) == pytest.approx(0.5)
    assert torch.equal(bias[1:], before[1:])
    with pytest.raises(ValueError, match="threshold"):
        move_scores(detector, 1.0)


def test_the_command_moves_scores_by_what_it_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = small_model().detector
    assert detector is not None
    save_checkpoint(tmp_path / "found.pt", CARD, detector, None)
    monkeypatch.setattr(scores, "cohort_slices", lambda _: [])
    monkeypatch.setattr(scores, "best_threshold", lambda *_: 0.25)
    scores.main(
        ["--detector", str(tmp_path / "found.pt"), "--cohort", "", "--output", str(tmp_path / "moved.pt")]
    )
    assert json.loads((tmp_path / "moved.json").read_text()) == {"score_that_became_half": 0.25}
    before, after = (load_segmentation(tmp_path / name).state_dict() for name in ("found.pt", "moved.pt"))
    bias = "roi_heads.box_predictor.cls_score.bias"
    assert float((before[bias] - after[bias])[0]) == pytest.approx(math.log(3), rel=1e-5)
