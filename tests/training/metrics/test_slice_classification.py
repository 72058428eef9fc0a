"""Accuracy as a metric of an engine."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from covid_ct_mask_net.labels import SLICE_CLASS_NAMES
from covid_ct_mask_net.training.metrics.slice_classification import SliceClassification


def _run(engine: Engine, predicted: list[int], true: list[int]) -> dict[str, float]:
    batches = [
        {"pred": torch.eye(3)[predicted[i : i + 2]], "label": torch.tensor(true[i : i + 2])}
        for i in range(0, len(true), 2)
    ]
    return dict(engine.run(batches).metrics)


def test_figures_are_of_all_batches_and_of_one_run() -> None:
    engine = Engine(lambda _, batch: batch)
    SliceClassification(SLICE_CLASS_NAMES).attach(engine, "accuracy")
    assert _run(engine, [1, 1, 1, 1], [0, 0, 0, 0])["accuracy"] == 0.0
    metrics = _run(engine, [0, 1, 2, 2], [0, 1, 1, 2])
    assert metrics["accuracy"] == 0.75
    assert metrics["sensitivity_control"] == 1.0
    assert metrics["sensitivity_common_pneumonia"] == 0.5
    assert metrics["sensitivity_covid_19"] == 1.0
    # F1 of 1, 2/3 and 2/3, weighted by 1, 2 and 1 slices.
    assert metrics["weighted_f1"] == pytest.approx(0.75)
