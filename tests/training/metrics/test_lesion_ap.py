"""AP as a metric of an engine."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.metrics.coco import CocoEvaluation
from covid_ct_mask_net.training.metrics.lesion_ap import LesionAP


def _target(label: int = 1, start: int = 4) -> dict[str, torch.Tensor]:
    mask = torch.zeros(1, 32, 32, dtype=torch.uint8)
    mask[0, start : start + 10, start : start + 12] = 1
    box = torch.tensor([[start, start, start + 12, start + 10]], dtype=torch.float32)
    return {"boxes": box, "labels": torch.tensor([label]), "masks": mask}


def _found(target: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        "boxes": target["boxes"], "labels": target["labels"], "scores": torch.ones(len(target["labels"])),
        "masks": target["masks"][:, None].float(),
    }  # fmt: skip


def _run(batches: list[dict[str, Any]]) -> dict[str, float]:
    engine = Engine(lambda _, batch: batch)
    LesionAP("both").attach(engine, "ap")
    return dict(engine.run(batches).metrics)


def test_figures_stand_beside_each_other() -> None:
    first, second = _target(1), _target(2)
    metrics = _run([{"pred": [_found(first), _found(second)], "label": [first, second]}])
    names = ("ap", "ap50", "ap75", "ap50_ground_glass_opacity", "ap50_consolidation")
    assert metrics == pytest.approx(dict.fromkeys(names, 1.0))


def test_wrong_classes_count_and_slices_are_forgotten_between_runs() -> None:
    target, other = _target(1), _target(2)
    assert _run([{"pred": [_found(other)], "label": [target]}])["ap"] == 0.0
    engine = Engine(lambda _, batch: batch)
    LesionAP("both").attach(engine, "ap")
    engine.run([{"pred": [_found(other)], "label": [target]}])
    assert engine.run([{"pred": [_found(target)], "label": [target]}]).metrics["ap"] == pytest.approx(1.0)


def test_no_lesions_give_no_number() -> None:
    empty = {
        "boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 32, 32, dtype=torch.uint8),
    }  # fmt: skip
    assert math.isnan(_run([{"pred": [_found(empty)], "label": [empty]}])["ap"])


def test_parts_of_processes_add_up_to_the_whole() -> None:
    targets = [_target(1), _target(2, 8), _target(1, 16)]
    found = [_found(targets[0]), _found(targets[0]), _found(targets[2])]
    whole, left, right = (CocoEvaluation(MaskType.BOTH) for _ in range(3))
    for index, (detection, target) in enumerate(zip(found, targets, strict=True)):
        whole.update(detection, target)
        (left if index < 2 else right).update(detection, target)
    left.extend(right)
    assert left.compute() == whole.compute()
    assert whole.compute().ap == pytest.approx(0.4175, abs=1e-3)
