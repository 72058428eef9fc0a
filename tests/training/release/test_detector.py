from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from covid_ct_mask_net.checkpoints import load_model, load_segmentation
from covid_ct_mask_net.training.release.detector import (
    SHIPPED_DETECTOR,
    Plan,
    learning_rate,
    train_detector,
)
from covid_ct_mask_net.training.synthesis.slice_supply import Ground


def test_rate_warms_up_and_falls() -> None:
    plan = Plan(steps=100, warm_up=10, rate=1.0)
    rates = [learning_rate(plan, step, step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) <= 1
    assert rates[20] > rates[60] > rates[100] == pytest.approx(0.02)


def test_a_short_training_writes_a_model(ground: Ground, tmp_path: Path) -> None:
    output = tmp_path / "model.pt"
    detector = train_detector([ground], Plan(steps=20, batch=1, warm_up=2, frozen=0.5), output)
    line = json.loads(output.with_suffix(".jsonl").read_text())
    assert line["step"] == 20
    assert {"loss_mask", "loss_dense", "loss_objectness"} <= set(line)
    model = load_model(output)
    assert model.detector is not None
    assert model.detector.settings == SHIPPED_DETECTOR
    assert "synthetic" in model.report.trained_on
    assert "no diagnostic value" in model.report.notice
    # The running statistics are those of the data, and the dense head is gone.
    statistics = [m.running_mean for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    assert any(float(mean.abs().max()) > 0.01 for mean in statistics if mean is not None)
    assert not any("dense" in name for name in model.detector.state_dict())
    assert torch.isfinite(model.detector([torch.rand(1, 64, 64)])[0]["scores"]).all()


def test_a_held_stem_stays(ground: Ground, tmp_path: Path) -> None:
    start = tmp_path / "start.pt"
    train_detector([ground], Plan(steps=1, batch=1, warm_up=1), start)
    plan = Plan(steps=2, batch=2, warm_up=1, hold_stem=True)
    train_detector([ground], plan, tmp_path / "model.pt", start=start)
    before, after = (load_segmentation(tmp_path / name).state_dict() for name in ("start.pt", "model.pt"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    held = {
        name for name in before if "backbone.body" in name and "layer2" not in name and "layer3" not in name
    }
    assert not changed & held
    assert any("layer3" in name for name in changed)


def test_time_ends_a_run(ground: Ground, tmp_path: Path) -> None:
    train_detector([ground], Plan(steps=10_000, batch=1, minutes=1e-6), tmp_path / "model.pt")
    assert (tmp_path / "model.pt").exists()
