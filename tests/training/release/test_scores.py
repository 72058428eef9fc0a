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
from covid_ct_mask_net.training.release.scores import OperatingPoint, move_scores, operating_point


class Timid(nn.Module):
    """Finds the lesion with score 0.3, by a mask that is 0.8 sure, and a false one with score 0.2."""

    def __init__(self, *, maskness: bool = False) -> None:
        super().__init__()
        self.settings = light_detector_settings(maskness=maskness)

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        masks = torch.zeros(2, 1, *images[0].shape[-2:])
        masks[0, 0, 4:10, 4:10] = 0.8
        masks[1, 0, 14:19, 14:19] = 1
        return [{"masks": masks, "scores": torch.tensor([0.3, 0.2]), "labels": torch.tensor([1, 1])}]


@pytest.mark.parametrize(("counts", "certainty"), [(False, 1.0), (True, 0.9)])
def test_the_threshold_lies_between_the_true_and_the_false(counts: bool, certainty: float) -> None:
    image, truth = np.zeros((20, 20), dtype=np.float32), np.zeros((20, 20), dtype=np.uint8)
    truth[4:10, 4:10] = 1
    point = operating_point(Timid(maskness=counts), [("a", "a", image, truth)])  # type: ignore[arg-type]
    assert 0.2 < point.threshold <= 0.3
    # The median of 0.8 and 1, all that is found.
    assert point.maskness == pytest.approx(certainty)


def test_scores_move_to_one_half() -> None:
    torch.manual_seed(0)
    detector = LesionDetector(light_detector_settings()).eval()
    bias = detector.roi_heads.box_predictor.cls_score.bias
    before = bias.detach().clone()
    move_scores(detector, OperatingPoint(0.2))
    logits = torch.log(torch.tensor([0.8, 0.2]))
    moved = torch.softmax(logits + (bias - before)[:2], dim=0)
    assert float(moved[1]) == pytest.approx(0.5)
    assert torch.equal(bias[1:], before[1:])
    with pytest.raises(ValueError, match="0, 1"):
        move_scores(detector, OperatingPoint(1.0))


def test_a_score_that_counts_masks_moves_to_one_half() -> None:
    torch.manual_seed(0)
    detector = LesionDetector(light_detector_settings(maskness=True)).eval()
    bias = detector.roi_heads.box_predictor.cls_score.bias
    before = bias.detach().clone()
    move_scores(detector, OperatingPoint(0.4, 0.8))
    # A box of 0.5 with a mask of 0.8 scored 0.4; the box has to score 0.625.
    moved = torch.softmax((bias - before)[:2], dim=0)
    assert float(moved[1]) * 0.8 == pytest.approx(0.5)
    with pytest.raises(ValueError, match="0, 1"):
        move_scores(detector, OperatingPoint(0.4, 0.45))


def test_the_command_moves_scores_by_what_it_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = small_model().detector
    assert detector is not None
    save_checkpoint(tmp_path / "found.pt", CARD, detector, None)
    monkeypatch.setattr(scores, "cohort_slices", lambda _: [])
    monkeypatch.setattr(scores, "operating_point", lambda *_: OperatingPoint(0.25))
    scores.main(
        ["--detector", str(tmp_path / "found.pt"), "--cohort", "", "--output", str(tmp_path / "moved.pt")]
    )
    assert json.loads((tmp_path / "moved.json").read_text()) == {
        "score_that_became_half": 0.25,
        "maskness": 1.0,
    }
    before, after = (load_segmentation(tmp_path / name).state_dict() for name in ("found.pt", "moved.pt"))
    bias = "roi_heads.box_predictor.cls_score.bias"
    assert float((before[bias] - after[bias])[0]) == pytest.approx(math.log(3), rel=1e-5)
