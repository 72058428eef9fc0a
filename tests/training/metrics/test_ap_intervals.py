from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.metrics.ap_intervals import (
    coco_intervals,
    dice_intervals,
    original_intervals,
)
from covid_ct_mask_net.training.metrics.coco import CocoEvaluation
from covid_ct_mask_net.training.metrics.lesion_dice import LesionDice
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
    for name in ("ap", "ap50", "ap75"):
        interval = coco_intervals(coco, patients, replicates=50)[name]
        assert interval.estimate == pytest.approx(getattr(plain, name))
        assert interval.low <= interval.estimate <= interval.high
        interval = original_intervals(original, patients, replicates=50)[name]
        assert interval.estimate == pytest.approx(original.compute()[name])
        assert interval.low < 0.75 < interval.high


def test_each_class_and_iou_has_an_interval() -> None:
    coco, original = _evaluated([True, False] * 6)
    patients = [str(index // 2) for index in range(12)]
    found = coco_intervals(coco, patients, replicates=20)
    assert found["by_class50"]["Ground-glass opacity"] == found["ap50"]
    assert math.isnan(found["by_class"]["Consolidation"].low), "the class does not occur"
    found = original_intervals(original, patients, replicates=20)
    assert found["by_iou"]["0.50"] == found["ap50"]
    assert found["by_class"]["Ground-glass opacity"].estimate == 0.5


def test_dice_has_the_interval_of_its_patients() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[:4] = 1
    dice = LesionDice(MaskType.BOTH)
    for hit in [True] * 4 + [False] * 4:
        masks = torch.from_numpy(labels[None, None] * float(hit))
        dice.update({"masks": masks, "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}, labels)
    together = dice_intervals(dice, ["a"] * 4 + ["b"] * 4, replicates=200)
    apart = dice_intervals(dice, [str(index) for index in range(8)], replicates=200)
    for kind in ("dice", "slice_dice"):
        wide, narrow = together[kind]["Ground-glass opacity"], apart[kind]["Ground-glass opacity"]
        assert wide.estimate == narrow.estimate == pytest.approx(dice.compute()[kind]["Ground-glass opacity"])
        assert (wide.low, wide.high) == (0, 1)
        assert 0 < narrow.low < narrow.estimate < narrow.high < 1
        assert math.isnan(together[kind]["Consolidation"].low)


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
