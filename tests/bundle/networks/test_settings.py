"""Settings: values of the paper and its code, and the way into and out of checkpoints."""

from __future__ import annotations

import dataclasses

import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.networks.settings import (
    ClassifierSettings,
    DetectorSettings,
    light_classifier_settings,
    light_detector_settings,
)


def test_defaults_are_the_values_of_tables_2_and_3() -> None:
    detector, classifier = DetectorSettings(), ClassifierSettings()
    assert (detector.rpn_nms, detector.roi_nms, detector.roi_score) == (0.75, 0.25, 0.05)
    assert (detector.rpn_batch, detector.roi_batch, detector.detections) == (256, 256, 100)
    assert (detector.rpn_top_training, detector.rpn_top_testing) == (2000, 1000)
    assert len(detector.anchor_sizes) * len(detector.anchor_ratios) == 30
    assert (classifier.regions, classifier.features, classifier.classes) == (256, 1024, 3)
    assert (classifier.rpn_nms, classifier.roi_nms, classifier.roi_score) == (0.75, 0.75, -0.01)


def test_light_models_read_half_the_regions() -> None:
    assert light_detector_settings().roi_batch == 256
    assert light_detector_settings().levels == 1
    assert (light_classifier_settings().regions, light_classifier_settings().features) == (128, 512)
    assert light_detector_settings(backbone="resnet34").backbone == "resnet34"


@pytest.mark.parametrize(
    "settings",
    [DetectorSettings(mask_type=MaskType.GGO, roi_nms=0.5), light_detector_settings(), ClassifierSettings()],
)
def test_settings_survive_plain_values(settings: DetectorSettings | ClassifierSettings) -> None:
    plain = settings.to_dict()
    assert all(type(value) in (str, int, float, bool, list) for value in plain.values())
    assert type(settings).from_dict(plain) == settings


def test_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="does not know regoins; allowed are regions, features") as caught:
        ClassifierSettings.from_dict({"regoins": 3})
    assert caught.value.code == "UNKNOWN_SETTING"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"backbone": "resnet101"}, "BACKBONE"),
        ({"truncation": 1}, "TRUNCATION"),
        ({"backbone": "resnet18", "truncation": 3}, "TRUNCATION"),
        ({"mask_type": "lungs"}, "MASK_TYPE"),
    ],
)
def test_settings_that_no_network_has_are_refused(changes: dict, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        DetectorSettings(**changes)
    assert caught.value.code == code


def test_trunk_tells_what_proposals_depend_on() -> None:
    settings = DetectorSettings()
    for name in ("roi_nms", "roi_score", "rpn_positive_fraction"):
        assert dataclasses.replace(settings, **{name: 0.4}).trunk == settings.trunk
    for change in ({"anchor_sizes": (4, 8)}, {"image_min_size": 256}, {"rpn_top_testing": 500}):
        assert dataclasses.replace(settings, **change).trunk != settings.trunk


@pytest.mark.parametrize(("given", "meant"), [(True, True), (False, False), ("false", False), ("True", True)])
def test_a_switch_of_the_command_line_means_what_it_says(given: bool | str, meant: bool) -> None:
    assert DetectorSettings(maskness=given).maskness is meant  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="maskness is set to 'sometimes', but must be true or false"):
        DetectorSettings(maskness="sometimes")  # type: ignore[arg-type]
