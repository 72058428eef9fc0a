"""What is trained in which mode."""

from __future__ import annotations

import pytest

from builders.networks import small_model
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import ClassifierSettings, DetectorSettings
from covid_ct_mask_net.training.modes import (
    batch_norms,
    freeze_statistics,
    parameter_counts,
    parameter_groups,
    train_classifier,
    train_detector,
)


def test_heads_leave_the_resnet_alone_and_train_the_rest() -> None:
    detector = LesionDetector(DetectorSettings(backbone="resnet18", truncation=2))
    trained = {id(p) for p in train_detector(detector, "heads")}
    assert not trained & {id(p) for p in detector.backbone.body.parameters()}
    for part in (detector.backbone.fpn, detector.rpn, detector.roi_heads):
        assert {id(p) for p in part.parameters()} <= trained
    assert len(train_detector(detector, "full")) == len(list(detector.parameters()))


def test_a_held_stem_ends_with_the_first_stage() -> None:
    detector = LesionDetector(DetectorSettings(backbone="resnet18", truncation=2))
    train_detector(detector, "held_stem")
    held = {name.split(".")[2] for name, p in detector.named_parameters() if not p.requires_grad}
    assert held == {"conv1", "bn1", "layer1"}
    assert all(p.requires_grad for p in detector.backbone.body.get_submodule("layer2").parameters())


def test_roi_heads_leave_what_proposals_depend_on() -> None:
    detector = LesionDetector(DetectorSettings(backbone="resnet18", truncation=2))
    trained = {id(p) for p in train_detector(detector, "roi_heads")}
    assert trained == {id(p) for p in detector.roi_heads.parameters()}
    assert not any(p.requires_grad for part in (detector.backbone, detector.rpn) for p in part.parameters())


def test_classifier_modes_have_the_papers_sizes() -> None:
    classifier = CovidCTMaskNet(DetectorSettings(), ClassifierSettings())
    counted = {}
    for mode in ("s", "s_bn", "full"):
        trained = train_classifier(classifier, mode)
        counts = parameter_counts(classifier, trained)
        assert counts["trainable"] == sum(p.numel() for p in classifier.parameters() if p.requires_grad)
        counted[mode] = counts
    assert counted["s"] == {"total": 31_522_845, "trainable": 2_364_419}
    assert counted["s_bn"]["trainable"] == 2_409_859
    with_shortcuts = train_classifier(classifier, "s_bn", "all")
    assert parameter_counts(classifier, with_shortcuts)["trainable"] == 2_417_539
    assert counted["full"]["trainable"] == 29_105_253 + 2_364_419


def test_boxes_and_s_have_rates_of_their_own() -> None:
    classifier = small_model().classifier
    assert classifier is not None
    trained = train_classifier(classifier, "s_boxes")
    names = {name.rsplit(".", 2)[0] for name, p in classifier.named_parameters() if p.requires_grad}
    assert names == {"s", "roi_heads.box_head", "roi_heads.box_predictor"}
    head, boxes = parameter_groups(classifier, trained, 0.5, trunk=0.1)
    assert (head["lr"], boxes["lr"]) == (0.5, pytest.approx(0.05))
    assert {id(p) for p in head["params"]} == {id(p) for p in classifier.s.parameters()}
    assert len(head["params"]) + len(boxes["params"]) == len(trained)
    assert len(parameter_groups(classifier, train_classifier(classifier, "s"), 0.5, trunk=0.1)) == 1


@pytest.mark.parametrize("layers", ["named", "all"])
def test_batch_normalisation_of_shortcuts_is_trained_where_all_is(layers: str) -> None:
    classifier = CovidCTMaskNet(DetectorSettings(), ClassifierSettings())
    train_classifier(classifier, "s_bn", layers)
    shortcuts = [p for name, p in classifier.named_parameters() if "downsample.1" in name]
    assert len(shortcuts) == 8
    assert all(p.requires_grad is (layers == "all") for p in shortcuts)
    assert classifier.backbone.body.bn1.weight.requires_grad


def test_unknown_layers_are_refused_with_the_allowed_ones() -> None:
    classifier = small_model().classifier
    assert classifier is not None
    with pytest.raises(UsageError, match=r"^batch_norm_layers is 'bn', but must be named or all\.$"):
        train_classifier(classifier, "s_bn", "bn")


def test_statistics_are_frozen_layer_by_layer() -> None:
    network = small_model().detector
    assert network is not None
    network.train()
    freeze_statistics(network)
    assert batch_norms(network)
    assert not any(layer.training for layer in batch_norms(network))
    assert network.training


def test_unknown_mode_is_refused_with_the_allowed_ones() -> None:
    detector = LesionDetector(DetectorSettings(backbone="resnet18", truncation=2))
    with pytest.raises(UsageError, match=r"'body'.*roi_heads or heads or held_stem or full"):
        train_detector(detector, "body")
