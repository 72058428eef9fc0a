"""Both networks over a slice: what they share is computed once, and the answer is the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from builders.networks import random_slices, small_model, small_s, small_trunk
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.slice_model import Shared, SliceModel, SliceOutput

SLICES = random_slices((64, 64), (100, 70), (64, 64))
FIELDS = ("logits", "boxes", "labels", "scores", "masks")


@pytest.fixture
def model() -> SliceModel:
    networks = small_model(roi_score=0.2, detections=12)
    assert networks.detector is not None
    assert networks.classifier is not None
    return SliceModel(networks.detector, networks.classifier, min_score=0.25).eval()


@contextmanager
def _calls(*modules: nn.Module) -> Iterator[list[int]]:
    counts = [0] * len(modules)

    def count(index: int) -> None:
        counts[index] += 1

    handles = [m.register_forward_hook(lambda *_, i=i: count(i)) for i, m in enumerate(modules)]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _backbones(model: SliceModel) -> tuple[nn.Module, nn.Module]:
    return model.classifier.backbone, model.detector.backbone


def _equal(ours: list[SliceOutput], theirs: list[SliceOutput]) -> bool:
    return all(
        torch.equal(getattr(one, field), getattr(other, field))
        for one, other in zip(ours, theirs, strict=True)
        for field in FIELDS
    )


def test_equal_trunks_run_once_a_slice(model: SliceModel) -> None:
    assert model.shared is Shared.REGIONS
    heads = (model.classifier.rpn, model.detector.rpn, model.detector.roi_heads.box_head)
    with _calls(*_backbones(model), *heads) as counts:
        outputs = model(SLICES)
    assert counts == [3, 0, 3, 0, 0]
    assert all(len(output.boxes) for output in outputs)


def test_shared_and_separate_paths_agree_to_the_bit(
    model: SliceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = model(SLICES)
    for kind in (Shared.PROPOSALS, Shared.NOTHING):
        monkeypatch.setattr(SliceModel, "shared", kind)
        assert _equal(shared, model(SLICES)), kind
    with torch.no_grad():
        alone = model.classifier(SLICES)
    assert torch.allclose(torch.stack([output.logits for output in shared]), alone, atol=1e-5)


@pytest.mark.parametrize("changed", ["detector", "classifier"])
@pytest.mark.parametrize(
    ("weight", "found", "backbone_calls"),
    [
        ("backbone.body.bn1.bias", Shared.NOTHING, [3, 3]),
        ("backbone.body.bn1.running_mean", Shared.NOTHING, [3, 3]),
        ("rpn.head.bbox_pred.weight", Shared.NOTHING, [3, 3]),
        ("roi_heads.box_predictor.cls_score.bias", Shared.PROPOSALS, [3, 0]),
        ("roi_heads.box_head.fc7.weight", Shared.PROPOSALS, [3, 0]),
    ],
)
def test_a_changed_weight_is_noticed(
    model: SliceModel, changed: str, weight: str, found: Shared, backbone_calls: list[int]
) -> None:
    assert model.shared is Shared.REGIONS
    tensor = getattr(model, changed).state_dict()[weight]
    before = tensor.clone()
    tensor.add_(0.01)
    assert model.shared is found
    with _calls(*_backbones(model)) as counts:
        model(SLICES)
    assert counts == backbone_calls
    tensor.copy_(before)
    assert model.shared is Shared.REGIONS


def test_an_optimiser_step_is_noticed(model: SliceModel) -> None:
    optimiser = torch.optim.SGD(model.classifier.backbone.parameters(), lr=0.1)
    for parameter in model.classifier.backbone.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    assert model.shared is Shared.NOTHING


def test_s_may_change_without_parting_the_trunks(model: SliceModel) -> None:
    with torch.no_grad():
        model.classifier.s.fc1.weight.add_(1.0)
    assert model.shared is Shared.REGIONS


def test_each_network_keeps_its_answer_where_trunks_differ(model: SliceModel) -> None:
    with torch.no_grad():
        model.classifier.backbone.body.bn1.bias.add_(0.05)
        logits = model.classifier(SLICES)
        detections = model.detector(SLICES)
    outputs = model(SLICES)
    for output, slice_logits, detection in zip(outputs, logits, detections, strict=True):
        keep = detection["scores"] >= 0.25
        assert torch.allclose(output.logits, slice_logits, atol=1e-5)
        assert torch.equal(output.scores, detection["scores"][keep])
        assert torch.equal(output.boxes, detection["boxes"][keep])


@pytest.mark.parametrize(
    ("detector_change", "s_change", "expected"),
    [
        ({"roi_nms": 0.6, "roi_batch": 7}, {}, Shared.REGIONS),
        ({"anchor_ratios": (0.2, 0.25, 0.5, 1.0, 1.5, 2.0)}, {}, Shared.NOTHING),
        ({"image_min_size": 80}, {}, Shared.NOTHING),
        ({"rpn_nms": 0.7}, {}, Shared.NOTHING),
        ({}, {"rpn_nms": 0.7}, Shared.NOTHING),
    ],
)
def test_settings_that_change_proposals_part_the_trunks(
    detector_change: dict, s_change: dict, expected: Shared
) -> None:
    detector = LesionDetector(small_trunk(**detector_change))
    classifier = CovidCTMaskNet(small_trunk(), small_s(**s_change))
    classifier.load_state_dict(
        {k: v for k, v in detector.state_dict().items() if not k.startswith("roi_heads.mask")}, strict=False
    )
    assert SliceModel(detector, classifier, 0.5).shared is expected


def test_results_do_not_depend_on_the_batch(model: SliceModel) -> None:
    alone = [model([image])[0] for image in SLICES]
    assert _equal(model(SLICES[::-1])[::-1], alone)


def test_weights_that_are_no_numbers_do_not_end_in_a_traceback(model: SliceModel) -> None:
    for network in (model.classifier, model.detector):
        network.state_dict()["backbone.body.conv1.weight"].fill_(torch.nan)
    (output,) = model(SLICES[:1])
    assert output.logits.isnan().all()


def test_training_mode_is_refused(model: SliceModel) -> None:
    with pytest.raises(RuntimeError, match="test mode"):
        model.train()(SLICES)


@pytest.mark.parametrize("kind", list(Shared))
def test_crops_are_read_at_the_scale_they_come_with(
    model: SliceModel, kind: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SliceModel, "shared", kind)
    crops = random_slices((32, 32), (32, 64))
    (small, wide), (doubled, _) = model(crops, [1.0, 1.0]), model(crops, [2.0, 1.0])
    assert _equal([doubled, wide], model(crops[:1]) + model(crops[1:], [1.0])), "64 pixels is the whole slice"
    assert not torch.equal(small.logits, doubled.logits)
    assert small.boxes.max() <= 32
    assert doubled.boxes.max() <= 32
    assert 32 < wide.boxes[:, 2].max() <= 64
    with torch.no_grad():
        rows = model.classifier.rows(crops, [1.0, 1.0])
        assert torch.allclose(model.classifier.s(rows)[0], small.logits, atol=1e-6)
        found = model.detector(crops, scales=[1.0, 1.0])
    keep = found[1]["scores"] >= 0.25
    assert torch.equal(found[1]["boxes"][keep], wide.boxes)
