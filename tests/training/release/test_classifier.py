from __future__ import annotations

import json
from pathlib import Path

import torch

from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import light_detector_settings
from covid_ct_mask_net.networks.slice_model import Shared, SliceModel
from covid_ct_mask_net.training.release.class_slices import Draws, class_slices
from covid_ct_mask_net.training.release.classifier import (
    Plan,
    initial_classifier,
    keep_features,
    train_classifier,
)
from covid_ct_mask_net.training.synthesis.slice_supply import Ground


def test_box_head_and_s_learn_and_the_trunk_stays(ground: Ground, tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = LesionDetector(light_detector_settings(image_min_size=320, rpn_top_testing=300)).eval()
    classifier = initial_classifier(detector, 1)
    assert SliceModel(detector, classifier, 0.5).shared is Shared.REGIONS
    plan = Plan(epochs=1, batch=2)
    kept = keep_features(classifier, class_slices([ground], Draws(3, 2)))
    train_classifier(classifier, kept, plan, tmp_path / "log.jsonl")
    assert SliceModel(detector, classifier, 0.5).shared is Shared.PROPOSALS
    assert json.loads((tmp_path / "log.jsonl").read_text())["epoch"] == 1
    assert torch.isfinite(classifier(torch.rand(1, 1, 96, 96))).all()
