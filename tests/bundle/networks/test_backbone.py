"""ResNet and FPN: as many levels as the paper's code has, no pooled one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from covid_ct_mask_net.networks.backbone import FPN_CHANNELS, build_backbone
from covid_ct_mask_net.networks.settings import DetectorSettings


@pytest.mark.parametrize(
    ("backbone", "truncation", "strides"),
    [
        ("resnet50", 0, (4, 8, 16, 32)),
        ("resnet18", 0, (32,)),
        ("resnet34", 1, (16,)),
        ("resnet18", 2, (8,)),
    ],
)
def test_feature_maps(backbone: str, truncation: int, strides: tuple[int, ...]) -> None:
    network = build_backbone(DetectorSettings(backbone=backbone, truncation=truncation)).eval()
    with torch.no_grad():
        maps = network(torch.rand(1, 3, 64, 96))
    assert list(maps) == [str(level) for level in range(len(strides))]
    for features, stride in zip(maps.values(), strides, strict=True):
        assert features.shape == (1, FPN_CHANNELS, 64 // stride, 96 // stride)


def test_truncated_stages_are_not_part_of_the_weights() -> None:
    keys = build_backbone(DetectorSettings(backbone="resnet18", truncation=2)).state_dict()
    assert any(key.startswith("body.layer2.") for key in keys)
    assert not any(key.startswith(("body.layer3.", "body.layer4.", "body.fc.")) for key in keys)


def test_batch_normalisation_can_be_trained() -> None:
    with torch.device("meta"):
        network = build_backbone(DetectorSettings())
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(layers) == 53
    assert all(layer.weight.requires_grad for layer in layers)
