from __future__ import annotations

import math

import pytest
import torch

from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.metrics.coco import CocoEvaluation, detector_class_names

Box = tuple[int, int, int, int]


def _masks(boxes: list[Box], side: int = 32) -> torch.Tensor:
    masks = torch.zeros(len(boxes), side, side, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    return masks


def _target(boxes: list[Box], labels: list[int]) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": _masks(boxes),
    }


def _detection(boxes: list[Box], labels: list[int], scores: list[float]) -> dict[str, torch.Tensor]:
    target = _target(boxes, labels)
    return {**target, "masks": target["masks"][:, None] * 0.9, "scores": torch.tensor(scores)}


A, B = (2, 2, 12, 12), (16, 16, 30, 30)


def test_perfect_detections_have_ap_one(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = CocoEvaluation(MaskType.BOTH)
    evaluation.update(_detection([A, B], [1, 2], [0.9, 0.8]), _target([A, B], [1, 2]))
    for masks in (True, False):
        result = evaluation.compute(masks)
        assert [result.ap, result.ap50, result.ap75] == pytest.approx([1, 1, 1])
        assert result.by_class == pytest.approx({"Ground-glass opacity": 1, "Consolidation": 1})
    assert capsys.readouterr().out == ""


def test_iou_of_two_thirds_counts_at_50_and_not_at_75() -> None:
    evaluation = CocoEvaluation(MaskType.MERGE)
    # 10 x 10 against 10 x 15: IoU 2/3, above 0.50, 0.55, 0.60, 0.65.
    evaluation.update(_detection([(2, 2, 12, 17)], [1], [0.9]), _target([A], [1]))
    result = evaluation.compute()
    assert result.ap50 == pytest.approx(1)
    assert result.ap75 == 0
    assert result.ap == pytest.approx(0.4)


def test_wrong_class_and_false_alarm_before_the_hit_cost_precision() -> None:
    evaluation = CocoEvaluation(MaskType.BOTH)
    evaluation.update(_detection([A], [2], [0.9]), _target([A], [1]))
    assert evaluation.compute().ap == 0
    evaluation = CocoEvaluation(MaskType.MERGE)
    # Over *all* slices, the false alarm of the second (0.9) comes before the hit of the first (0.5).
    evaluation.update(_detection([A], [1], [0.5]), _target([A], [1]))
    evaluation.update(_detection([B], [1], [0.9]), _target([], []))
    assert evaluation.compute().ap50 == pytest.approx(0.5)


def test_absent_classes_and_empty_slices_are_left_out_of_the_mean() -> None:
    evaluation = CocoEvaluation(MaskType.BOTH)
    evaluation.update(_detection([], [], []), _target([], []))
    assert math.isnan(evaluation.compute().ap)
    evaluation.update(_detection([A], [1], [0.9]), _target([A], [1]))
    result = evaluation.compute()
    assert result.ap == pytest.approx(1)
    assert math.isnan(result.by_class["Consolidation"])
    assert set(result.to_dict()) == {"ap", "ap50", "ap75", "by_class", "by_class50"}


def test_class_names_of_mask_types() -> None:
    assert detector_class_names(MaskType.GGO) == {1: "Ground-glass opacity"}
    assert detector_class_names(MaskType.MERGE) == {1: "Lesion"}
    assert list(detector_class_names(MaskType.BOTH)) == [1, 2]
