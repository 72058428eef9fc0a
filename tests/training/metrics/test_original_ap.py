from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.metrics.original_ap import (
    OriginalImageAP,
    image_average_precision,
    mask_overlaps,
)
from covid_ct_mask_net.training.metrics.protocols import protocol


def _overlaps(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=float)


def _same(shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, dtype=bool)


def test_a_lesion_takes_the_best_overlap_and_not_the_best_score() -> None:
    # Two detections of one lesion: the second, less sure, overlaps better and is the hit.
    overlaps = _overlaps([0.6], [0.8])
    assert image_average_precision(overlaps, _same((2, 1)), 0.5) == 0.5


def test_one_detection_may_serve_two_lesions_but_counts_once() -> None:
    overlaps = _overlaps([0.6, 0.7])
    assert image_average_precision(overlaps, _same((1, 2)), 0.5) == 0.5


def test_a_shared_detection_makes_the_figure_lower_than_matching_one_to_one() -> None:
    # The second lesion prefers the first's detection to its own, and so counts as missed.
    overlaps = _overlaps([0.8, 0.7], [0.0, 0.6])
    assert image_average_precision(overlaps, _same((2, 2)), 0.5) == 0.5
    apart = _overlaps([0.8, 0.0], [0.0, 0.6])
    assert image_average_precision(apart, _same((2, 2)), 0.5) == 1


def test_empty_slices() -> None:
    assert image_average_precision(np.zeros((0, 0)), _same((0, 0)), 0.5) == 1
    assert image_average_precision(np.zeros((1, 0)), _same((1, 0)), 0.5) == 0
    assert image_average_precision(np.zeros((0, 1)), _same((0, 1)), 0.5) == 0


def test_threshold_is_exclusive_and_classes_must_agree() -> None:
    assert image_average_precision(_overlaps([0.5]), _same((1, 1)), 0.5) == 0
    assert image_average_precision(_overlaps([0.9]), np.zeros((1, 1), dtype=bool), 0.5) == 0
    assert image_average_precision(_overlaps([0.9]), _same((1, 1)), 0.5) == 1


def _slice(score: float, left: int = 2) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    mask = torch.zeros(1, 16, 16, dtype=torch.uint8)
    mask[0, 2:12, left : left + 10] = 1
    truth = torch.zeros(1, 16, 16, dtype=torch.uint8)
    truth[0, 2:12, 2:12] = 1
    label = torch.tensor([1])
    detection = {"masks": mask[:, None].float(), "labels": label, "scores": torch.tensor([score])}
    return detection, {"masks": truth, "labels": label}


def test_the_mean_is_over_slices_and_low_scores_are_left_out() -> None:
    metric = OriginalImageAP(protocol("readme").thresholds)
    assert math.isnan(metric.compute()["ap"])
    metric.update(*_slice(0.9))
    metric.update(*_slice(0.6))
    figures = metric.compute()
    assert (figures["ap"], figures["ap50"], figures["ap75"]) == (0.5, 0.5, 0.5)
    # The paper's counts both.
    low = OriginalImageAP(protocol("paper").thresholds)
    low.update(*_slice(0.6))
    assert low.compute()["ap"] == 1
    # Shifted by 2 of 10: IoU 8 / 12, above 0.50 to 0.65.
    shifted = OriginalImageAP()
    shifted.update(*_slice(0.9, left=4))
    assert shifted.compute()["ap"] == pytest.approx(0.4)
    assert shifted.compute()["ap50"] == 1
    assert shifted.compute()["ap75"] == 0


def test_every_iou_and_every_class_has_its_figure() -> None:
    metric = OriginalImageAP()
    metric.update(*_slice(0.9, left=4))
    figures = metric.compute()
    assert list(figures["by_iou"]) == [
        "0.50", "0.55", "0.60", "0.65", "0.70", "0.75", "0.80", "0.85", "0.90", "0.95",
    ]  # fmt: skip
    # IoU 8 / 12.
    assert list(figures["by_iou"].values()) == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    # A detection of the second class where there is none: wrong there, and false among all.
    detection, target = _slice(0.9)
    extra = {
        "masks": detection["masks"].repeat(2, 1, 1, 1), "labels": torch.tensor([2, 1]),
        "scores": torch.tensor([0.95, 0.9]),
    }  # fmt: skip
    both = OriginalImageAP()
    both.update(extra, target)
    found = both.compute()
    assert found["ap50"] == 0.5
    assert found["by_class"] == {"Ground-glass opacity": 1, "Consolidation": 0}
    assert found["by_class50"] == {"Ground-glass opacity": 1, "Consolidation": 0}
    one = OriginalImageAP(mask_type=MaskType.MERGE)
    one.update(detection, target)
    assert one.compute()["by_class"] == {"Lesion": 1}


def test_pixels_count_from_the_mask_threshold_on() -> None:
    detection, target = _slice(0.9)
    # A frame of pixels of probability 0.55: masks of the code, whose logits are thresholded at 0.5, lack it.
    detection["masks"][0, 0, 12:14, 2:12] = 0.55
    ious = {}
    for name in ("paper", "code"):
        metric = OriginalImageAP(protocol(name).thresholds)
        metric.update(detection, target)
        ious[name] = metric.compute()["by_iou"]
    assert (ious["paper"]["0.80"], ious["paper"]["0.85"], ious["code"]["0.95"]) == (1, 0, 1)


def test_overlap_of_masks() -> None:
    masks = np.zeros((2, 4, 4), dtype=bool)
    masks[0, :2], masks[1, 1:3] = True, True
    assert mask_overlaps(masks, masks).tolist() == [[1, pytest.approx(1 / 3)], [pytest.approx(1 / 3), 1]]
    assert mask_overlaps(np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2), bool)).tolist() == [[0]]
