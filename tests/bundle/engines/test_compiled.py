"""Engine exact gives the reference's answer, and the same one to the bit in any company."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import openvino as ov
import pytest
import torch

from builders.engines import equal, large_networks, light_networks, reference, stacked_logits
from builders.networks import random_slices
from covid_ct_mask_net.checkpoints import Model
from covid_ct_mask_net.engines.base import Engine, has_bfloat16
from covid_ct_mask_net.engines.programs import Program
from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.networks.slice_model import Shared

SLICES = [
    *random_slices(*[(64, 64)] * 4, (100, 70), (70, 128), seed=4),
    *random_slices(*[(128, 128)] * 4, seed=5),
]
KINDS = ["light", pytest.param("large", marks=pytest.mark.slow)]


@cache
def _networks(kind: str) -> Model:
    return light_networks(maskness=True, roi_score=0.1) if kind == "light" else large_networks()


def _exact(model: Model, workers: int = 1) -> Engine:
    assert model.detector is not None
    assert model.classifier is not None
    return build_engine(model.detector, model.classifier, 0.25, name="exact", workers=workers, cache="none")


@pytest.mark.parametrize("kind", KINDS)
def test_same_class_same_logits_same_lesions(kind: str) -> None:
    model = _networks(kind)
    ours, theirs = _exact(model)(SLICES), reference(model)(SLICES)
    difference = (stacked_logits(ours) - stacked_logits(theirs)).abs()
    assert torch.equal(stacked_logits(ours).argmax(1), stacked_logits(theirs).argmax(1))
    # Logits reach 20 on the random ResNet50, whose features differ by 4e-5 from float64 in torch too.
    assert difference.median() <= (1e-4 if kind == "light" else 1e-3)
    same = 0
    for one, other in zip(ours, theirs, strict=True):
        if len(one.boxes) == len(other.boxes) and torch.equal(one.labels, other.labels):
            same += 1
            assert torch.allclose(one.boxes, other.boxes, atol=1e-2)
            assert torch.allclose(one.scores, other.scores, atol=1e-4)
            # Boxes of the random ResNet50 differ by up to 1e-3 pixel, its mask probabilities by 2e-3.
            assert torch.allclose(one.masks, other.masks, atol=1e-3 if kind == "light" else 5e-3)
    # A rounding error may swap two ranks or one decision of NMS on a slice.
    assert same >= len(SLICES) - 1
    assert sum(len(one.boxes) for one in ours) > len(SLICES)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_the_bit_in_any_batch_order_and_number_of_workers(kind: str) -> None:
    model = _networks(kind)
    alone = [_exact(model)([image])[0] for image in SLICES[:1]]
    engine = _exact(model)
    alone = [engine([image])[0] for image in SLICES]
    assert equal(engine(SLICES), alone)
    assert equal(engine(SLICES[::-1])[::-1], alone)
    for workers in (2, 3):
        assert equal(_exact(model, workers)(SLICES), alone)


@pytest.mark.parametrize(
    ("weight", "shared"),
    [
        ("backbone.body.bn1.bias", Shared.NOTHING),
        ("roi_heads.box_predictor.cls_score.bias", Shared.PROPOSALS),
        ("s.fc1.bias", Shared.REGIONS),
    ],
)
def test_networks_that_part_and_weights_that_change(weight: str, shared: Shared) -> None:
    model = light_networks()
    engine = _exact(model)
    before = engine(SLICES[:2])
    assert model.classifier is not None
    # Not all alike: the softmax of the box head takes no notice of a common shift.
    bias = model.classifier.state_dict()[weight]
    bias[: len(bias) // 2].add_(0.05)
    assert engine.shared is shared
    ours, theirs = engine(SLICES[:2]), reference(model)(SLICES[:2])
    assert torch.allclose(stacked_logits(ours), stacked_logits(theirs), atol=1e-3)
    assert not torch.equal(stacked_logits(ours), stacked_logits(before))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one.boxes, other.boxes, atol=1e-2)


def test_crops_and_rows() -> None:
    model = _networks("light")
    assert model.classifier is not None
    engine = _exact(model)
    crops, scales = random_slices((32, 64), (64, 32)), [1.0, 1.3]
    ours, theirs = engine(crops, scales), reference(model)(crops, scales)
    assert torch.allclose(stacked_logits(ours), stacked_logits(theirs), atol=1e-3)
    with torch.no_grad():
        expected = model.classifier.rows(crops, scales)
    assert torch.allclose(engine.rows(crops, scales), expected, atol=1e-3)


def test_a_slice_waits_for_what_is_being_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _networks("light")
    expected = _exact(model)(SLICES[:1])
    compiled = Counter[int]()
    build = Program.request

    def slow(self: Program) -> ov.InferRequest:
        compiled[id(self)] += 1
        time.sleep(0.05)
        return build(self)

    monkeypatch.setattr(Program, "request", slow)
    _exact(model).warm()
    once = compiled.total()
    compiled.clear()
    engine = _exact(model)
    with ThreadPoolExecutor(2) as pool:
        warm = pool.submit(engine.warm)
        while not compiled:
            time.sleep(0.001)
        answer = pool.submit(engine, SLICES[:1]).result()
        warm.result()
    assert equal(answer, expected)
    assert compiled.total() == once, "the slice is of the size that warm prepares for"


def test_weights_that_are_no_numbers_are_refused() -> None:
    # A compiled ReLU turns what is no number into zero: the answer would look sound.
    model = light_networks()
    assert model.classifier is not None
    model.classifier.state_dict()["backbone.body.conv1.weight"].fill_(torch.nan)
    with pytest.raises(NotAssessableError) as caught:
        _exact(model)(SLICES[:1])
    assert caught.value.code == "MODEL_NON_FINITE"


def test_training_mode_is_refused() -> None:
    with pytest.raises(RuntimeError, match="test mode"):
        _exact(_networks("light")).train()(SLICES[:1])


@pytest.mark.skipif(not has_bfloat16(), reason="this processor does not multiply bfloat16; fast refuses it")
def test_bfloat16_keeps_most_of_it() -> None:
    model = _networks("light")
    assert model.detector is not None
    assert model.classifier is not None
    engine = build_engine(model.detector, model.classifier, 0.25, name="fast", precision="bfloat16")
    assert (engine.report.name, engine.report.precision) == ("fast", "bfloat16")
    ours, exact = engine(SLICES[:4]), _exact(model)(SLICES[:4])
    assert equal(engine(SLICES[:4]), ours)
    difference = (stacked_logits(ours) - stacked_logits(exact)).abs()
    assert difference.max() > 0
    best = [(a.scores[0] - b.scores[0]).abs() for a, b in zip(ours, exact, strict=True)]
    assert max(best) < 0.05
