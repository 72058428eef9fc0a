from __future__ import annotations

import numpy as np
import pytest
import torch

from builders.networks import random_slices, small_model
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.networks.backbone import build_backbone
from covid_ct_mask_net.networks.settings import DetectorSettings, light_detector_settings
from covid_ct_mask_net.training.release.dense_head import (
    DenseDetectorTraining,
    DenseHead,
    dense_loss,
    finest_stride,
)
from covid_ct_mask_net.training.segmentation import LOSSES
from covid_ct_mask_net.training.targets import detection_target


def _target(height: int, width: int) -> dict[str, torch.Tensor]:
    mask = torch.zeros(1, height, width, dtype=torch.uint8)
    mask[0, 8:24, 4:20] = 1
    return {"labels": torch.tensor([2]), "masks": mask}


def test_head_predicts_at_a_quarter() -> None:
    assert DenseHead()(torch.zeros(2, 256, 3, 5)).shape == (2, 2, 12, 20)


def test_loss_is_small_only_for_the_right_class_and_place() -> None:
    right = torch.full((1, 2, 8, 8), -20.0)
    right[0, 1, 2:6, 1:5] = 20.0
    target = [_target(30, 31)]
    assert float(dense_loss(right, target)) < 0.05
    assert float(dense_loss(right.flip(1), target)) > 1
    assert float(dense_loss(right.roll(3, dims=-1), target)) > 1


def test_slices_without_lesions_want_nothing() -> None:
    empty = [{"labels": torch.zeros(0, dtype=torch.int64), "masks": torch.zeros(0, 32, 32)}]
    assert float(dense_loss(torch.full((1, 2, 8, 8), -20.0), empty)) < 0.05
    assert float(dense_loss(torch.full((1, 2, 8, 8), 5.0), empty)) > 1


@pytest.mark.parametrize("joint", [False, True])
def test_the_dense_loss_joins_the_five_and_reaches_the_trunk(joint: bool) -> None:
    detector = small_model().detector
    assert detector is not None
    network = DenseDetectorTraining(detector, "learned", joint).train()
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[10:30, 20:40] = 1
    targets = [{**detection_target(mask, MaskType.BOTH), "scale": torch.tensor([1.0])} for _ in range(2)]
    losses = network(random_slices((64, 64), (64, 64)), targets, [1, 2])
    assert isinstance(losses, dict)
    assert set(losses) == {*LOSSES, "loss_dense"}
    losses["loss_dense"].backward()
    for part in (network.dense.predict, detector.backbone.body.conv1):
        assert part.weight.grad is not None
        assert float(part.weight.grad.abs().max()) > 0
    detections = network.eval()(random_slices((64, 64)))
    assert isinstance(detections, list)
    assert not any("dense" in name for name in detector.state_dict())


@pytest.mark.parametrize(
    ("settings", "stride"),
    [
        (light_detector_settings(), 16),
        (light_detector_settings(truncation=0), 32),
        (DetectorSettings(image_min_size=64), 4),
    ],
)
def test_the_head_reads_the_finest_level(settings: DetectorSettings, stride: int) -> None:
    assert finest_stride(settings) == stride
    features = build_backbone(settings).eval()(torch.zeros(1, 3, 64, 96))["0"]
    assert (64 // features.shape[2], 96 // features.shape[3]) == (stride, stride)
    assert DenseHead(stride)(features).shape == (1, 2, 16, 24)
