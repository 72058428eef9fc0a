"""Graphs built from weights give what torch gives."""

from __future__ import annotations

from functools import cache

import numpy as np
import openvino as ov
import pytest
import torch

from builders.engines import large_networks, light_networks
from builders.networks import random_slices
from covid_ct_mask_net.checkpoints import Model
from covid_ct_mask_net.engines import graph
from covid_ct_mask_net.engines.runtime import CORE

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


@cache
def _networks(kind: str) -> Model:
    return light_networks() if kind == "light" else large_networks()


def _run(model: ov.Model, inputs: np.ndarray) -> list[np.ndarray]:
    outputs = CORE.compile_model(model, "CPU", FLOAT32)([inputs])
    return [outputs[index] for index in range(len(outputs))]


def _close(found: np.ndarray, expected: torch.Tensor) -> bool:
    # Float32 against float64 differs by up to 4e-5 in torch itself on these random weights.
    return float(np.abs(found - expected.numpy()).max()) <= 2e-4 * float(expected.abs().max())


@pytest.mark.parametrize("kind", ["light", "large"])
@pytest.mark.parametrize("shape", [(64, 96), (70, 90)])
def test_the_trunk_with_its_grey_stem_and_padding(kind: str, shape: tuple[int, int]) -> None:
    network = _networks(kind).classifier
    assert network is not None
    (image,) = random_slices(shape)
    with torch.no_grad():
        images, _ = network.transform([image], [{"scale": torch.tensor(1.0)}])
        features = list(network.backbone(images.tensors).values())
        objectness, deltas = network.rpn.head(features)
    height, width = images.tensors.shape[-2:]
    inputs = np.zeros((1, 2, height, width), np.float32)
    inputs[0, 0, : shape[0], : shape[1]] = image[0].numpy()
    inputs[0, 1, : shape[0], : shape[1]] = 1.0
    model = graph.trunk_graph(network)
    model.reshape([1, 2, height, width])
    for found, expected in zip(_run(model, inputs), [*features, *objectness, *deltas], strict=True):
        assert _close(found, expected[0].permute(1, 2, 0))


def test_box_head_mask_branch_and_s() -> None:
    model = _networks("light")
    detector, classifier = model.detector, model.classifier
    assert detector is not None
    assert classifier is not None
    pooled = torch.randn(5, 256, 7, 7, generator=torch.Generator().manual_seed(0))
    heads = detector.roi_heads
    with torch.no_grad():
        expected = heads.box_predictor(heads.box_head(pooled))
        large = torch.randn(3, 256, 14, 14, generator=torch.Generator().manual_seed(1))
        masks = heads.mask_predictor(heads.mask_head(large)).sigmoid()
        rows = torch.randn(1, classifier.settings.regions, 5)
        logits = classifier.s(rows)
    flat = np.ascontiguousarray(pooled.permute(0, 2, 3, 1).reshape(5, -1).numpy())
    for networks in ([detector], [classifier, detector]):
        found = _run(graph.box_graph(networks, 5), flat)
        assert len(found) == 2 * len(networks)
        for one, wanted in zip(found[-2:], expected, strict=True):
            assert _close(one, wanted)
    mask_model = graph.mask_graph(heads.mask_head, heads.mask_predictor, 3, 14)
    assert _close(_run(mask_model, np.ascontiguousarray(large.permute(0, 2, 3, 1).numpy()))[0], masks)
    assert _close(_run(graph.s_graph(classifier.s), rows.flatten(1).numpy())[0], logits)
