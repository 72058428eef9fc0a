"""Int8 trunks from phantoms that never change."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest

from builders.engines import light_networks
from covid_ct_mask_net.engines import calibration
from covid_ct_mask_net.engines.calibration import phantoms, quantise_box_heads, quantise_trunk
from covid_ct_mask_net.engines.graph import box_graph, trunk_graph
from covid_ct_mask_net.engines.runtime import CORE


def test_phantoms_are_the_same_each_time_and_look_like_slices() -> None:
    first, second = phantoms(3, 1), phantoms(3, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], phantoms(1, 2)[0])
    for image in first:
        assert image.shape == (512, 512)
        assert image.dtype == np.float32
        assert 0.0 == image.min() < image.max() <= 1.0
        assert 0.1 < image.mean() < 0.8


def test_convolutions_become_int8_but_for_the_first_and_the_ranked_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("nncf", reason="nncf (extra engines) is not installed")
    monkeypatch.setattr(calibration, "CALIBRATION_SLICES", 2)
    network = light_networks().classifier
    assert network is not None
    model = trunk_graph(network)
    quantised = quantise_trunk(model)
    kinds = [node.get_type_name() for node in quantised.get_ordered_ops()]
    assert kinds.count("FakeQuantize") > 8
    assert "FakeQuantize" not in [node.get_type_name() for node in model.get_ordered_ops()]
    inputs = np.stack([phantoms(1, 7)[0][100:356, 100:356], np.ones((256, 256), np.float32)])[None]
    outputs = []
    for one in (model, quantised):
        one.reshape([1, 2, 256, 256])
        answer = CORE.compile_model(one, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([inputs])
        outputs.append([answer[index] for index in range(len(answer))])
    for exact, rough in zip(*outputs, strict=True):
        correlation = np.corrcoef(exact.ravel(), rough.ravel())[0, 1]
        assert 0.98 < correlation < 1.0


def test_the_first_layer_of_the_box_heads_becomes_int8() -> None:
    pytest.importorskip("nncf", reason="nncf (extra engines) is not installed")
    model = light_networks()
    detector, classifier = model.detector, model.classifier
    assert detector is not None
    assert classifier is not None
    heads = box_graph([classifier, detector], 5)
    rng = np.random.default_rng(0)
    pooled = [rng.standard_normal((5, 256 * 49), dtype=np.float32) for _ in range(3)]
    quantised = quantise_box_heads(heads, pooled)
    nodes = quantised.get_ordered_ops()
    quantised_inputs = [
        node.input_value(0).get_node().get_type_name() == "FakeQuantize"
        for node in nodes
        if node.get_type_name() == "MatMul"
    ]
    assert quantised_inputs == [True] + 6 * [False]
    constants = [node for node in nodes if node.get_type_name() == "Constant"]
    assert [node.get_output_element_type(0) for node in constants].count(ov.Type.i8) == 1
