from __future__ import annotations

import numpy as np
import pytest
import torch

from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.metrics.ap_intervals import coco_intervals, original_intervals
from covid_ct_mask_net.training.metrics.coco import CocoEvaluation
from covid_ct_mask_net.training.metrics.original_ap import OriginalImageAP
from covid_ct_mask_net.training.targets import detection_target


def _evaluated(found: list[bool], seed: int = 0) -> tuple[CocoEvaluation, OriginalImageAP]:
    """Evaluate slices with one lesion each, which is found exactly or not at all."""
    coco, original = CocoEvaluation(MaskType.BOTH), OriginalImageAP()
    generator = np.random.default_rng(seed)
    for hit in found:
        labels = np.zeros((48, 48), np.uint8)
        row = int(generator.integers(4, 20))
        labels[row : row + 14, 10:28] = 1
        target = detection_target(labels, MaskType.BOTH)
        count = int(hit)
        detection = {
            "boxes": target["boxes"][:count], "labels": target["labels"][:count],
            "scores": torch.full((count,), 0.9), "masks": target["masks"][:count, None].float(),
        }  # fmt: skip
        for metric in (coco, original):
            metric.update(detection, target)
    return coco, original


def test_estimates_are_those_of_the_metrics() -> None:
    coco, original = _evaluated([True, True, False, True] * 3)
    patients = [str(index // 2) for index in range(12)]
    plain = coco.compute(masks=True)
    for name, interval in coco_intervals(coco, patients, replicates=50).items():
        assert interval.estimate == pytest.approx(getattr(plain, name))
        assert interval.low <= interval.estimate <= interval.high
    for name, interval in original_intervals(original, patients, replicates=50).items():
        assert interval.estimate == pytest.approx(original.compute()[name])
        assert interval.low < 0.75 < interval.high


def test_a_detector_that_never_fails_has_no_spread() -> None:
    coco, original = _evaluated([True] * 6)
    patients = [str(index) for index in range(6)]
    for found in (coco_intervals(coco, patients, replicates=20), original_intervals(original, patients)):
        assert (found["ap"].low, found["ap"].high) == (pytest.approx(1), pytest.approx(1))


def test_slices_of_one_patient_stay_together() -> None:
    """Two patients, one always found and one never: resamples are all, half or nothing."""
    coco, _ = _evaluated([True] * 5 + [False] * 5)
    patients = ["a"] * 5 + ["b"] * 5
    one = coco_intervals(coco, patients, replicates=100)["ap50"]
    apart = coco_intervals(coco, [str(index) for index in range(10)], replicates=100)["ap50"]
    assert (one.low, one.high) == (pytest.approx(0), pytest.approx(1))
    assert apart.high - apart.low < 1


def test_boxes_have_their_own() -> None:
    coco, _ = _evaluated([True, False])
    assert coco_intervals(coco, ["a", "b"], masks=False, replicates=10)["ap50"].estimate == pytest.approx(
        coco.compute(masks=False).ap50
    )
