"""The benchmarks compare what they say they compare."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from builders.networks import random_slices, small_model

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_paper_s_loop_gives_the_logits_of_our_classifier() -> None:
    classifier = small_model().classifier
    assert classifier is not None
    slices = torch.stack(random_slices(*[(64, 64)] * 3))
    logits = _module("original").OriginalLoop(classifier)(slices)
    with torch.inference_mode():
        assert torch.allclose(logits, classifier(slices), atol=1e-5)


def test_the_engines_of_a_gpu_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size, amount = ["--network", "light", "--size", "64"], ["--batch", "2", "--slices", "2", "--rounds", "1"]
    words = ["gpu.py", "--device", "cpu", *size, *amount]
    monkeypatch.setattr("sys.argv", words)
    _module("gpu").main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["torch", "exact", "fast", "fast,"]
    same, away = rows[1][-2:]
    assert same == "2/2"
    assert float(away) < 1e-4
