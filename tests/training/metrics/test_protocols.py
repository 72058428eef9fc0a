"""Thresholds of the original's AP, from its three sources."""

from __future__ import annotations

import math
from typing import Any

import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.networks.settings import DetectorSettings
from covid_ct_mask_net.training.metrics.protocols import protocol


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("paper", (0.25, 0.05, 100, 0.5)),
        ("readme", (0.75, 0.75, 128, 0.622)),
        ("code", (0.5, 0.05, 128, 0.622)),
    ],
)
def test_protocols_set_all_thresholds_together(name: str, expected: tuple[float, ...]) -> None:
    found = protocol(name)
    values = found.thresholds
    assert (values.roi_nms, values.confidence, values.detections) == expected[:3]
    assert values.mask_threshold == pytest.approx(expected[3], abs=1e-3)
    assert found.changed == ()
    if name != "paper":
        logit = math.log(values.mask_threshold / (1 - values.mask_threshold))
        assert logit == pytest.approx(0.5), "the code thresholds logits at 0.5"


def test_the_default_is_the_papers_which_is_that_of_detectors() -> None:
    values, settings = protocol().thresholds, DetectorSettings()
    assert protocol().name == "paper"
    assert (values.roi_nms, values.confidence, values.detections) == (
        settings.roi_nms, settings.roi_score, settings.detections,
    )  # fmt: skip


def test_what_is_given_wins_and_is_named() -> None:
    found = protocol("readme", roi_nms=0.25, confidence=0.75)
    assert found.to_dict() == {
        "name": "readme", "roi_nms": 0.25, "confidence": 0.75, "detections": 128,
        "mask_threshold": pytest.approx(0.6225, abs=1e-4), "changed": ["roi_nms"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": "thesis"}, "must be paper, readme, code"),
        ({"roi_nms": 25}, "roi_nms is 25, but must be a number from 0 to 1"),
        ({"mask_threshold": "half"}, "mask_threshold is 'half'"),
        ({"detections": 0.5}, "detections is 0.5, but must be a whole number"),
    ],
)
def test_others_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        protocol(**given)
