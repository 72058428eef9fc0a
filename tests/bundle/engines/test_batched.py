"""The engines of a GPU, computed on a CPU: the answers of the reference, in any company."""

from __future__ import annotations

import pytest
import torch

from builders.engines import large_networks, light_networks, reference, stacked_logits
from builders.networks import random_slices
from covid_ct_mask_net.checkpoints import Model, load_model
from covid_ct_mask_net.engines.base import EngineName
from covid_ct_mask_net.engines.batched import BatchedEngine
from covid_ct_mask_net.networks.slice_model import Shared, SliceOutput
from covid_ct_mask_net.paths import bundle_root

CPU = torch.device("cpu")
# Two sizes, one of them in several slices; the second is resized and padded.
SLICES = random_slices(*[(64, 64)] * 4, (100, 70), (100, 70), seed=4)


def _engine(model: Model, name: EngineName = EngineName.EXACT, min_score: float = 0.25) -> BatchedEngine:
    assert model.detector is not None
    assert model.classifier is not None
    return BatchedEngine(model.detector, model.classifier, min_score, name=name, device=CPU)


def _agree(ours: list[SliceOutput], theirs: list[SliceOutput]) -> None:
    assert torch.allclose(stacked_logits(ours), stacked_logits(theirs), atol=1e-3)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.labels, other.labels)
        assert torch.allclose(one.boxes, other.boxes, atol=1e-2)
        assert torch.allclose(one.scores, other.scores, atol=1e-4)
        assert torch.allclose(one.masks, other.masks, atol=5e-3)


@pytest.mark.parametrize("maskness", [False, True])
def test_the_answers_of_the_reference(maskness: bool) -> None:
    model = light_networks(maskness=maskness, roi_score=0.1)
    ours, theirs = _engine(model)(SLICES), reference(model)(SLICES)
    _agree(ours, theirs)
    assert sum(len(one.boxes) for one in ours) > len(SLICES)


def test_several_levels_and_one_tensor_of_slices() -> None:
    model = large_networks()
    slices = torch.stack(random_slices(*[(128, 128)] * 3, seed=5))
    ours, theirs = _engine(model)(slices), reference(model)(slices)
    assert stacked_logits(ours).argmax(1).equal(stacked_logits(theirs).argmax(1))
    assert (stacked_logits(ours) - stacked_logits(theirs)).abs().median() < 1e-3
    assert [len(one.boxes) for one in ours] == [len(one.boxes) for one in theirs]


def test_crops_are_read_at_the_scale_of_their_slices() -> None:
    model = light_networks()
    crops, scales = random_slices((32, 64), (32, 64), (64, 32)), [1.0, 1.3, 1.3]
    _agree(_engine(model)(crops, scales), reference(model)(crops, scales))


@pytest.mark.parametrize(
    ("weight", "shared"),
    [
        ("backbone.body.bn1.bias", Shared.NOTHING),
        ("roi_heads.box_predictor.cls_score.bias", Shared.PROPOSALS),
        ("s.fc1.bias", Shared.REGIONS),
    ],
)
def test_networks_that_part(weight: str, shared: Shared) -> None:
    model = light_networks()
    assert model.classifier is not None
    bias = model.classifier.state_dict()[weight]
    bias[: len(bias) // 2].add_(0.05)
    engine = _engine(model)
    _agree(engine(SLICES), reference(model)(SLICES))
    assert engine.shared is shared


def test_nothing_found_and_few_regions() -> None:
    model = light_networks()
    assert model.classifier is not None
    model.classifier.roi_heads.score_thresh = 0.36
    ours, theirs = _engine(model, min_score=1.0)(SLICES), reference(model, min_score=1.0)(SLICES)
    _agree(ours, theirs)
    assert not any(len(one.boxes) for one in ours)
    assert ours[0].masks.shape == (0, 1, 28, 28)
    model.classifier.roi_heads.score_thresh = 1.1
    _agree(_engine(model)(SLICES), reference(model)(SLICES))


@pytest.mark.parametrize("weight", ["rpn.head.bbox_pred.weight", "backbone.body.conv1.weight"])
def test_a_network_without_numbers_gives_none(weight: str) -> None:
    model = light_networks()
    assert model.classifier is not None
    assert model.detector is not None
    for network in (model.classifier, model.detector):
        network.state_dict()[weight].fill_(torch.nan)
    outputs = _engine(model)(SLICES)
    assert stacked_logits(outputs).isnan().all()
    assert stacked_logits(reference(model)(SLICES)).isnan().all()
    assert not any(len(one.boxes) for one in outputs)


def test_fast_computes_in_bfloat16_and_says_so() -> None:
    # Ranks of random networks are too close for it: the shipped weights.
    model = load_model(bundle_root() / "models" / "model.pt")
    slices = random_slices(*[(320, 320)] * 3)
    expected = stacked_logits(reference(model)(slices))
    engine = _engine(model, EngineName.FAST)
    report = engine.report
    assert (report.name, report.precision, report.device) == ("fast", "bfloat16", "cpu")
    assert "float32" in report.note
    logits = stacked_logits(engine(slices))
    assert logits.argmax(1).equal(expected.argmax(1))
    assert 0 < (logits - expected).abs().median() < 0.5


def test_exact_keeps_all_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _engine(light_networks())
    seen = []
    together = engine._together

    def watched(images: torch.Tensor, scale: float) -> list[SliceOutput]:
        seen.append(torch.backends.cudnn.allow_tf32)
        return together(images, scale)

    monkeypatch.setattr(engine, "_together", watched)
    before = torch.backends.cudnn.allow_tf32
    engine(SLICES[:1])
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 == before
