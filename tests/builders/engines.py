"""Networks whose untrained outputs are sane, for comparing engines."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from builders.networks import random_slices, small_model
from covid_ct_mask_net.checkpoints import Model, untrained_model
from covid_ct_mask_net.networks.settings import ClassifierSettings, DetectorSettings
from covid_ct_mask_net.networks.slice_model import SliceModel, SliceOutput

FIELDS = ("logits", "boxes", "labels", "scores", "masks")


def light_networks(**changes: object) -> Model:
    """One FPN level, slices of 64 pixels."""
    return calibrated(small_model(**({"roi_score": 0.2, "detections": 12} | changes)))


def large_networks() -> Model:
    """ResNet50 with four FPN levels, slices of 128 pixels."""
    detector = DetectorSettings(
        image_min_size=128, image_max_size=256, rpn_top_testing=150, roi_score=0.2, detections=12
    )
    return calibrated(untrained_model(detector, ClassifierSettings(regions=64, features=32), 3))


def calibrated(model: Model) -> Model:
    """Set the statistics of batch normalisation to those of some slices, in both networks alike."""
    detector, classifier = model.detector, model.classifier
    assert detector is not None
    assert classifier is not None
    norms = [module for module in detector.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        for image in random_slices(*[(96, 96)] * 4, seed=9):
            detector.backbone(detector.transform([image])[0].tensors)
    for norm in norms:
        norm.eval()
    classifier.backbone.load_state_dict(detector.backbone.state_dict())
    return model


def reference(model: Model, min_score: float = 0.25) -> SliceModel:
    assert model.detector is not None
    assert model.classifier is not None
    return SliceModel(model.detector, model.classifier, min_score).eval()


def equal(ours: list[SliceOutput], theirs: list[SliceOutput]) -> bool:
    """Whether two answers are the same to the bit."""
    return all(
        torch.equal(getattr(one, field), getattr(other, field))
        for one, other in zip(ours, theirs, strict=True)
        for field in FIELDS
    )


def stacked_logits(outputs: list[SliceOutput]) -> Tensor:
    return torch.stack([output.logits for output in outputs])
