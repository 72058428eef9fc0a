"""COVID-CT-Mask-Net: size, S, independence of the batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from builders.networks import random_slices, small_s, small_trunk
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet, HeadS
from covid_ct_mask_net.networks.settings import (
    ClassifierSettings,
    DetectorSettings,
    light_classifier_settings,
    light_detector_settings,
)


@pytest.fixture(scope="module")
def network() -> CovidCTMaskNet:
    torch.manual_seed(5)
    return CovidCTMaskNet(small_trunk(), small_s()).eval()


def test_size_is_that_of_the_paper() -> None:
    with torch.device("meta"):
        network = CovidCTMaskNet(DetectorSettings(), ClassifierSettings())
    count = {key: tensor.numel() for key, tensor in network.state_dict().items()}
    assert sum(count.values()) == 31_522_845  # paper: 31.52M
    assert sum(p.numel() for p in network.s.parameters()) == 2_364_419
    assert len(count) == 354
    assert not [key for key in count if "mask" in key], "no mask branch"


@pytest.mark.parametrize(
    ("backbone", "truncation", "millions"),
    [
        ("resnet34", 0, 24.87), ("resnet34", 1, 11.68), ("resnet34", 2, 4.82),
        ("resnet18", 0, 14.75), ("resnet18", 1, 6.29), ("resnet18", 2, 4.15),
    ],
)  # fmt: skip
def test_size_of_the_light_models(backbone: str, truncation: int, millions: float) -> None:
    detector = light_detector_settings(backbone=backbone, truncation=truncation)
    with torch.device("meta"):
        network = CovidCTMaskNet(detector, light_classifier_settings())
    assert sum(p.numel() for p in network.s.parameters()) == 592_387
    assert round(sum(t.numel() for t in network.state_dict().values()) / 1e6, 2) == millions


def test_s_is_three_layers_over_the_rows_in_order() -> None:
    torch.manual_seed(0)
    head = HeadS(small_s(classes=2))
    rows = torch.randn(3, 16, 5)
    expected = rows.reshape(3, 80)
    for number, layer in enumerate((head.fc1, head.fc2, head.fc3), 1):
        expected = expected @ layer.weight.T + layer.bias
        if number < 3:
            expected = expected.clamp(min=0)
    assert torch.allclose(head(rows), expected, atol=1e-5)
    assert head(rows).shape == (3, 2)
    assert not torch.allclose(head(rows), head(rows.flip(1)), atol=1e-3), "the rank of a row matters"


def test_s_is_initialised_by_fan_out() -> None:
    torch.manual_seed(0)
    head = HeadS(ClassifierSettings())
    assert head.fc1.weight.detach().std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    assert all(layer.bias.abs().sum() == 0 for layer in (head.fc1, head.fc2, head.fc3))


@torch.no_grad()
def test_a_slice_has_the_same_logits_alone_and_in_any_batch(network: CovidCTMaskNet) -> None:
    slices = random_slices((64, 64), (100, 70), (64, 64), (70, 100), (64, 90))
    alone = torch.cat([network.rows([image]) for image in slices])
    assert torch.equal(network.rows(slices), alone), "bit-equal rows"
    order = [3, 0, 4, 2, 1]
    assert torch.equal(network.rows([slices[i] for i in order]), alone[order])
    logits = torch.cat([network([image]) for image in slices])
    assert torch.allclose(network(slices), logits, atol=1e-5)
    assert torch.allclose(network([slices[i] for i in order]), logits[order], atol=1e-5)
    assert logits.std(0).min() > 1e-3, "slices differ, or the test would show nothing"


@torch.no_grad()
def test_tensor_and_sequence_are_the_same(network: CovidCTMaskNet) -> None:
    slices = random_slices((64, 80), (64, 80))
    assert torch.equal(network(torch.stack(slices)), network(slices))
    assert network(torch.stack(slices)).shape == (2, 3)


def test_trunk_stays_in_test_mode_while_s_trains(network: CovidCTMaskNet) -> None:
    network.train()
    try:
        assert network.training
        assert network.s.training
        trunk = (network.transform, network.backbone, network.rpn, network.roi_heads)
        assert not any(module.training for part in trunk for module in part.modules())
        layer = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
        before = layer.running_mean.clone()  # type: ignore[union-attr]
        rows = network.rows(random_slices((64, 64)))
        assert rows.shape == (1, 16, 5), "rows as at inference, no targets"
        assert torch.equal(layer.running_mean, before)  # type: ignore[arg-type]
    finally:
        network.eval()


def test_image_loss_reaches_all_weights(network: CovidCTMaskNet) -> None:
    """Mode ``full`` trains the trunk through the rows."""
    network.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(
        network(random_slices((64, 64))), torch.tensor([[0.0, 0.0, 1.0]])
    )
    loss.backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    for name in ("s.fc1.weight", "roi_heads.box_head.fc6.weight", "backbone.body.conv1.weight"):
        gradient = gradients[name]
        assert gradient is not None
        assert gradient.abs().sum() > 0, name


def test_thresholds_of_table_3() -> None:
    with torch.device("meta"):
        network = CovidCTMaskNet(DetectorSettings(), ClassifierSettings())
    heads = network.roi_heads
    assert (network.rpn.nms_thresh, heads.nms_thresh, heads.score_thresh) == (0.75, 0.75, -0.01)
    assert heads.detections_per_img == 256
    assert network.rpn.min_size == 0
