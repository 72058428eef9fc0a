from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.metrics.lesion_dice import LesionDice, outlined_labels


def _detection(*parts: tuple[slice, int, float]) -> dict[str, torch.Tensor]:
    masks = torch.zeros(len(parts), 1, 10, 10)
    for mask, (rows, _, _) in zip(masks, parts, strict=True):
        mask[0, rows] = 0.8
    return {
        "masks": masks,
        "labels": torch.tensor([label for _, label, _ in parts], dtype=torch.int64),
        "scores": torch.tensor([score for _, _, score in parts]),
    }


def test_where_detections_overlap_the_surest_is_on_top() -> None:
    detection = _detection((slice(0, 4), 1, 0.9), (slice(2, 6), 2, 0.6), (slice(8, 10), 2, 0.3))
    painted = outlined_labels(detection, (10, 10), 0.5)
    assert [int(row[0]) for row in painted] == [1, 1, 1, 1, 2, 2, 0, 0, 0, 0]


def test_dice_by_class_over_all_pixels_and_by_slice() -> None:
    metric = LesionDice(MaskType.BOTH)
    truth = np.zeros((10, 10), np.uint8)
    truth[0:4] = 1
    metric.update(_detection((slice(2, 6), 1, 0.9)), truth)  # 20 of 40 and 40 pixels
    metric.update(_detection((slice(0, 4), 1, 0.9)), truth)  # all
    metric.update(_detection(), np.zeros((10, 10), np.uint8))  # nothing to find, nothing found
    result = metric.compute()
    assert result["dice"]["Ground-glass opacity"] == pytest.approx(2 * 60 / 160)
    assert result["slice_dice"]["Ground-glass opacity"] == pytest.approx((0.5 + 1) / 2)
    assert math.isnan(result["dice"]["Consolidation"])


def test_a_wrong_class_overlaps_with_nothing() -> None:
    metric = LesionDice(MaskType.BOTH)
    truth = np.zeros((10, 10), np.uint8)
    truth[0:4] = 2
    metric.update(_detection((slice(0, 4), 1, 0.9)), truth)
    assert metric.compute()["dice"] == {"Ground-glass opacity": 0, "Consolidation": 0}
