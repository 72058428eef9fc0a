from __future__ import annotations

from typing import Any

import pytest

from covid_ct_mask_net.training.release.report_text import markdown

_ONE = {"value": 0.5, "low": 0.4, "high": 0.6}


def _slices() -> dict[str, Any]:
    return {
        "slices": 50,
        "patients": 50,
        "fragments_a_slice": 11.5,
        "dice": {"lesion": {**_ONE, "value": 0.7}, "ggo": _ONE, "consolidation": _ONE},
        "mask_ap": {"ap": 0.1, "ap50": 0.2, "ap75": 0.05},
        "confusion": [[90, 5, 0], [1, 2, 0], [1, 0, 1]],
    }


@pytest.fixture
def report() -> dict[str, Any]:
    classes = {"Control": _ONE, "Common Pneumonia": _ONE, "COVID-19": _ONE}
    level = {
        "count": 60, "accuracy": _ONE, "sensitivity": classes, "disease_sensitivity": _ONE,
        "disease_specificity": _ONE, "confusion": [[20, 0, 0], [0, 20, 0], [1, 1, 18]],
    }  # fmt: skip
    return {
        "model": {"name": "m", "version": "1", "sha256": "ab" * 32},
        "rule": {"pooling": "mean of all", "temperature": 1.5},
        "expert_slices": _slices(),
        "real_series": [
            {
                "series": "a/0", "reason": None, "class": "Control", "lesion_percent": 0.25,
                "probabilities": [1, 0, 0],
            },
            {"series": "b/0", "reason": "NOT_CHEST"},
        ],
        "synthetic_slices": _slices(),
        "pictures": {"good": "images/g.png"},
        "synthetic_scans": {
            "scans": 60, "assessed": 60, "slices": level, "scan_level": level,
            "calibration": {"ece": 0.05, "brier": 0.2},
            "raised": {"threshold": 0.3, "sensitivity": 1.0, "specificity": 0.9},
            "control_lesion_percent": [0.1, 0.4],
            "lesion_volume_dice": {"lesion": 0.7, "ggo": 0.6, "consolidation": 0.5},
        },
    }  # fmt: skip


def test_aims_are_reached_or_missed_by_so_much(report: dict[str, Any]) -> None:
    text = markdown(report)
    assert "| Dice, both classes together | 0.700 [0.400, 0.600] | 0.65 | reached |" in text
    assert "| Dice, GGO | 0.500 [0.400, 0.600] | 0.55 | missed by 0.0500 |" in text
    assert "11.5 fragments" in text
    assert "| GGO | 1.00 | 2.00 | 0.00 |" in text


def test_every_series_and_refusal_is_listed(report: dict[str, Any]) -> None:
    text = markdown(report)
    assert "| a/0 | Control | 0.25 % | 1.00, 0.00, 0.00 |" in text
    assert "| b/0 | not assessed: NOT_CHEST |" in text
    assert "at most 0.40 % of the lungs" in text
    assert "![good cases](images/g.png)" in text


def test_what_was_not_measured_is_left_out(report: dict[str, Any]) -> None:
    del report["expert_slices"], report["real_series"]
    text = markdown(report)
    assert "Expert" not in text
    assert "Real series" not in text
    assert "Scans of held-out" in text
