from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import torch

from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.slice_model import Shared, SliceModel
from covid_ct_mask_net.training.release.classifier import (
    Plan,
    draw_slices,
    initial_classifier,
    keep_features,
    train_classifier,
)
from covid_ct_mask_net.training.release.detector import SHIPPED_DETECTOR
from covid_ct_mask_net.training.synthesis.slice_supply import Ground


def test_slices_of_all_classes_are_drawn(ground: Ground) -> None:
    drawn = list(draw_slices([ground], Plan(draws=6, slices=4)))
    counts = Counter(slice_class for _, slice_class in drawn)
    assert set(counts) == {0, 1, 2}
    assert all(image.shape == (1, 96, 96) for image, _ in drawn)


def test_box_head_and_s_learn_and_the_trunk_stays(ground: Ground, tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = LesionDetector(SHIPPED_DETECTOR).eval()
    classifier = initial_classifier(detector, 1)
    assert SliceModel(detector, classifier, 0.5).shared is Shared.REGIONS
    plan = Plan(draws=3, slices=2, epochs=1, batch=2)
    kept = keep_features(classifier, draw_slices([ground], plan))
    train_classifier(classifier, kept, plan, tmp_path / "log.jsonl")
    assert SliceModel(detector, classifier, 0.5).shared is Shared.PROPOSALS
    assert json.loads((tmp_path / "log.jsonl").read_text())["epoch"] == 1
    assert torch.isfinite(classifier(torch.rand(1, 1, 96, 96))).all()
