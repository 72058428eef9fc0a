"""The benchmarks compare what they say they compare."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torchvision.ops import nms

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


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_iterated_nms_is_greedy_nms(threshold: float) -> None:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(5, 300, 2, 2, generator=generator) * 60
    boxes = torch.cat([corners.amin(2), corners.amax(2)], dim=-1)
    valid = torch.rand(5, 300, generator=generator) < 0.8
    kept = _module("gpu").greedy_nms(boxes, valid, threshold)
    for group, real, found in zip(boxes, valid, kept, strict=True):
        places = torch.nonzero(real)[:, 0]
        expected = places[nms(group[places], torch.arange(len(places), 0, -1).float(), threshold)]
        assert torch.equal(torch.nonzero(found)[:, 0], expected.sort().values)
    assert 0 < kept.sum() < valid.sum()


def test_without_loops_on_the_device_the_logits_are_the_same() -> None:
    classifier = small_model(image_min_size=64).classifier
    assert classifier is not None
    slices = torch.stack(random_slices(*[(64, 64)] * 3))
    logits = _module("gpu").Batched(classifier.eval(), amp=False, compiled=False)(slices)
    with torch.inference_mode():
        assert torch.allclose(logits, classifier(slices), atol=1e-4)
