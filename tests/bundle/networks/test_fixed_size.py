"""The networks as exporters see them give the answers of the networks as they are."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor

from builders.networks import random_slices, small_model
from covid_ct_mask_net.checkpoints import Model
from covid_ct_mask_net.networks.fixed_size import (
    FixedSizeClassifier,
    FixedSizeDetector,
    _best_first,
    exporting,
)

VARIANTS = {
    "resnet18": {"truncation": 1, "maskness": True},
    "resnet34": {"backbone": "resnet34", "truncation": 0},
    "resnet50": {"backbone": "resnet50", "truncation": 0},
}
# As the networks take them; resized; with padding at the border; long and narrow.
SHAPES = [(64, 64), (70, 90), (150, 66), (40, 200)]


@pytest.fixture(scope="module", params=VARIANTS)
def model(request: pytest.FixtureRequest) -> Model:
    return small_model(seed=2, **VARIANTS[request.param])


def _slice(shape: tuple[int, int], seed: int = 0) -> Tensor:
    return random_slices(shape, seed=seed)[0][None]


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_same_logits(model: Model, shape: tuple[int, int]) -> None:
    assert model.classifier is not None
    assert torch.equal(FixedSizeClassifier(model.classifier)(_slice(shape)), model.classifier(_slice(shape)))


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_same_detections(model: Model, shape: tuple[int, int]) -> None:
    detector = model.detector
    assert detector is not None
    (expected,) = detector(_slice(shape))
    boxes, labels, scores, masks = FixedSizeDetector(detector)(_slice(shape))
    found = len(expected["scores"])
    assert found > 0
    assert boxes.shape == (detector.settings.detections, 4)
    assert masks.shape == (detector.settings.detections, 1, 28, 28)
    assert torch.equal(scores[:found], expected["scores"])
    # Equal scores may change places: compare as sets of (score, label, box).
    ours = torch.cat([scores[:, None], labels[:, None], boxes], 1)[:found]
    theirs = torch.cat([expected["scores"][:, None], expected["labels"][:, None], expected["boxes"]], 1)
    assert torch.allclose(_sorted(ours), _sorted(theirs), atol=1e-4)
    for rest in (scores[found:], labels[found:], boxes[found:], masks[found:]):
        assert not rest.any()


def test_equal_scores_keep_their_order() -> None:
    scores = torch.tensor([0.5, 0.7, 0.5, float("-inf"), 0.7, float("-inf"), 0.9])
    assert _best_first(scores).tolist() == [6, 1, 4, 0, 2, 3, 5]
    many = torch.randint(0, 9, (100,), generator=torch.Generator().manual_seed(1)).float()
    assert torch.equal(_best_first(many), many.sort(descending=True, stable=True)[1])


def _sorted(rows: Tensor) -> Tensor:
    return torch.tensor(sorted(rows.tolist(), reverse=True))


@torch.no_grad()
def test_same_masks() -> None:
    detector = small_model(seed=2, roi_score=0.3).detector
    assert detector is not None
    image = _slice((70, 90))
    (expected,) = detector(image)
    boxes, _, scores, masks = FixedSizeDetector(detector)(image)
    found = scores > 0
    pasted = detector.transform.postprocess(
        [{"boxes": boxes[found], "masks": masks[found]}], [(70, 90)], [(70, 90)]
    )[0]["masks"]
    assert 0 < len(expected["masks"]) < len(masks)
    assert torch.allclose(pasted, expected["masks"], atol=1e-4)


@torch.no_grad()
def test_slices_without_regions() -> None:
    model = small_model(rpn_top_testing=60)
    assert model.classifier is not None
    model.classifier.roi_heads.score_thresh = 1.1
    image = _slice((64, 64))
    assert torch.equal(FixedSizeClassifier(model.classifier)(image), model.classifier(image))
    assert model.detector is not None
    model.detector.roi_heads.score_thresh = 1.1
    assert not any(output.any() for output in FixedSizeDetector(model.detector)(image))


@torch.no_grad()
def test_a_network_without_numbers_says_so() -> None:
    classifier = small_model().classifier
    assert classifier is not None
    classifier.state_dict()["rpn.head.conv.0.0.weight"].fill_(torch.nan)
    assert FixedSizeClassifier(classifier)(_slice((64, 64))).isnan().all()


@torch.no_grad()
def test_torchscript_takes_slices_of_any_size_and_number(model: Model) -> None:
    assert model.classifier is not None
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(model.classifier), buffer)
    buffer.seek(0)
    script = torch.jit.load(buffer)
    slices = torch.cat([_slice((70, 90), seed) for seed in range(3)])
    assert torch.equal(script(slices), model.classifier(slices))
    assert torch.equal(script(_slice((150, 66))), model.classifier(_slice((150, 66))))


@torch.no_grad()
def test_torchscript_of_the_detector(model: Model) -> None:
    detector = model.detector
    assert detector is not None
    script = torch.jit.script(detector)
    for shape in SHAPES[:2]:
        for ours, theirs in zip(
            script(_slice(shape)), FixedSizeDetector(detector)(_slice(shape)), strict=True
        ):
            assert torch.equal(ours, theirs)


@torch.no_grad()
def test_tracing_and_list_output_mode() -> None:
    model = small_model()
    assert model.detector is not None
    assert model.classifier is not None
    image = _slice((64, 64))
    assert not exporting()
    traced = torch.jit.trace(model.classifier, (image,), check_trace=False)
    other = _slice((64, 64), seed=5)
    assert torch.equal(traced(other), model.classifier(other))
    model.detector.use_list_output = True
    listed = model.detector(image)
    assert [tuple(output.shape[:1]) for output in listed] == [(model.detector.settings.detections,)] * 4
