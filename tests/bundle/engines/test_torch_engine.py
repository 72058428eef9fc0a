"""The reference engine is `SliceModel`, with a report."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from builders.engines import equal, light_networks, reference
from builders.networks import random_slices
from covid_ct_mask_net.engines.torch_engine import TorchEngine
from covid_ct_mask_net.networks.slice_model import SliceModel


def test_it_is_the_reference() -> None:
    model = light_networks()
    assert model.detector is not None
    assert model.classifier is not None
    engine = TorchEngine(model.detector, model.classifier, 0.25, torch.device("cpu"), "because")
    slices = random_slices((64, 64), (90, 70))
    assert equal(engine(slices), reference(model)(slices))
    assert (engine.report.name, engine.report.device, engine.report.note) == ("torch", "cpu", "because")
    assert engine.report.runtime.startswith("torch ")


def test_convolutions_of_a_gpu_are_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = light_networks()
    assert model.detector is not None
    assert model.classifier is not None
    engine = TorchEngine(model.detector, model.classifier, 0.25, torch.device("cpu"))
    seen, cudnn = [], torch.backends.cudnn
    compute = SliceModel.forward

    def watched(self: SliceModel, *arguments: Any) -> Any:
        seen.append((cudnn.allow_tf32, cudnn.enabled, cudnn.deterministic, cudnn.benchmark))
        return compute(self, *arguments)

    monkeypatch.setattr(SliceModel, "forward", watched)
    monkeypatch.setattr(cudnn, "deterministic", True)
    monkeypatch.setattr(cudnn, "benchmark", True)
    before = (cudnn.allow_tf32, cudnn.enabled)
    engine(random_slices((64, 64)))
    assert seen == [(False, True, True, True)]
    assert (cudnn.allow_tf32, cudnn.enabled, cudnn.deterministic, cudnn.benchmark) == (*before, True, True)
