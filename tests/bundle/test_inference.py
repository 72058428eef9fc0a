"""From slices to evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from builders.networks import random_slices, small_model
from covid_ct_mask_net import inference
from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.evidence import SliceEvidence
from covid_ct_mask_net.inference import (
    DecliningInferer,
    SliceInferer,
    crop_masks,
    prepare_volume,
    single_volume,
)
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.networks.slice_model import SliceModel, SliceOutput
from covid_ct_mask_net.slice_crop import SliceCrop
from covid_ct_mask_net.slice_sampling import SlicePlan, SliceSampling
from covid_ct_mask_net.triage.lesions import LesionRules, LungSpace

SLICES = torch.stack(random_slices(*[(70, 90)] * 5))
INDICES = [3, 4, 5, 8, 9]


@pytest.fixture(scope="module")
def model() -> SliceModel:
    networks = small_model(roi_score=0.2, detections=10)
    assert networks.detector is not None
    assert networks.classifier is not None
    return SliceModel(networks.detector, networks.classifier, min_score=0.2).eval()


def _drawn(cropped: Sequence, shape: tuple[int, int]) -> np.ndarray:
    whole = np.zeros((len(cropped), *shape), bool)
    for slice_mask, ((row, column), mask) in zip(whole, cropped, strict=True):
        slice_mask[row : row + mask.shape[0], column : column + mask.shape[1]] = mask
    return whole


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_cropped_masks_are_those_of_torchvision(threshold: float) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (60, 80)
    corners = torch.rand(200, 2, 2, generator=generator) * torch.tensor([80.0, 60.0])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    boxes[:40, :2] = 0.0  # reach over the border once the padding is added
    boxes[40:80, 2:] = torch.tensor([80.0, 60.0])
    boxes[80:90, 2:] = boxes[80:90, :2]  # no extent
    masks = torch.rand(200, 1, 28, 28, generator=generator)
    expected = (paste_masks_in_image(masks, boxes, shape)[:, 0] > threshold).numpy()
    cropped = crop_masks(masks, boxes, shape, threshold)
    assert np.array_equal(_drawn(cropped, shape), expected)
    assert expected.any()
    for ((row, column), mask), box in zip(cropped, boxes.tolist(), strict=True):
        assert row >= 0
        assert column >= 0
        assert row + mask.shape[0] <= shape[0]
        assert column + mask.shape[1] <= shape[1]
        assert mask.size <= 1.2 * (box[2] - box[0] + 3) * (box[3] - box[1] + 3), "small, not slice-sized"


def test_no_detection_no_mask() -> None:
    assert crop_masks(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), (60, 80), 0.5) == []


def _same(first: SliceEvidence, second: SliceEvidence) -> bool:
    return (first.slice_index, first.logits) == (second.slice_index, second.logits) and all(
        (a.lesion_class, a.score, a.box, a.offset) == (b.lesion_class, b.score, b.box, b.offset)
        and np.array_equal(a.mask, b.mask)
        for a, b in zip(first.instances, second.instances, strict=True)
    )  # fmt: skip


def test_evidence_does_not_depend_on_the_batch_size(model: SliceModel) -> None:
    whole = SliceInferer(batch_size=8, mask_threshold=0.5)(SLICES, model, INDICES)
    parts = SliceInferer(batch_size=2, mask_threshold=0.5)(SLICES, model, INDICES)
    assert [evidence.slice_index for evidence in whole] == INDICES
    assert all(_same(a, b) for a, b in zip(whole, parts, strict=True))
    assert any(evidence.instances for evidence in whole)


def test_evidence_says_what_the_network_says(model: SliceModel) -> None:
    evidence = SliceInferer(batch_size=4, mask_threshold=0.5)(SLICES[:1], model, [7])[0]
    (output,) = model(SLICES[:1])
    assert evidence.logits == tuple(output.logits.double().tolist())
    pasted = paste_masks_in_image(output.masks, output.boxes, (70, 90))[:, 0] > 0.5
    drawn = [mask for mask in pasted.numpy() if mask.any()]
    assert len(evidence.instances) == len(drawn)
    for instance, mask in zip(evidence.instances, drawn, strict=True):
        assert np.array_equal(_drawn([(instance.offset, instance.mask)], (70, 90))[0], mask)
        assert instance.slice_index == 7
        assert instance.lesion_class in (LesionClass.GROUND_GLASS_OPACITY, LesionClass.CONSOLIDATION)
    scores = [instance.score for instance in evidence.instances]
    assert scores == sorted(scores, reverse=True)


def test_progress_counts_slices(model: SliceModel) -> None:
    done: list[int] = []
    SliceInferer(batch_size=2, mask_threshold=0.5)(SLICES, model, INDICES, done.append)
    assert done == [2, 2, 1]
    assert SliceInferer(batch_size=2, mask_threshold=0.5)(SLICES[:0], model, []) == []


def test_a_network_without_numbers_is_not_believed() -> None:
    networks = small_model()
    assert networks.detector is not None
    assert networks.classifier is not None
    networks.classifier.state_dict()["rpn.head.conv.0.0.weight"].fill_(torch.nan)
    broken = SliceModel(networks.detector, networks.classifier, min_score=0.5).eval()
    with pytest.raises(NotAssessableError) as caught:
        SliceInferer(batch_size=2, mask_threshold=0.5)(SLICES, broken, INDICES)
    assert caught.value.code == "MODEL_NON_FINITE"
    assert "slice 3" in caught.value.sentence


def _of_mask_type(mask_type: str) -> SliceModel:
    networks = small_model(mask_type=mask_type, roi_score=0.0)
    assert networks.detector is not None
    assert networks.classifier is not None
    return SliceModel(networks.detector, networks.classifier, min_score=0.0).eval()


def test_a_volume_without_numbers_is_a_reason_for_the_evaluator(model: SliceModel) -> None:
    reason = NotAssessableError("MODEL_NON_FINITE", "No number.")

    def broken(*_: object, **__: object) -> list[SliceEvidence]:
        raise reason

    assert DecliningInferer(broken)(torch.zeros(1), model, [0]) is reason
    inputs, indices = torch.stack(random_slices((64, 64))), [4]
    inferer = SliceInferer(2, 0.5)
    wrapped, alone = (
        DecliningInferer(inferer)(inputs, model, slice_indices=indices),
        inferer(inputs, model, [4]),
    )
    assert isinstance(wrapped, list)
    assert [one.logits for one in wrapped] == [one.logits for one in alone]


def test_mask_type_ggo_finds_ggo_and_merge_is_refused() -> None:
    inferer = SliceInferer(batch_size=2, mask_threshold=0.1)
    evidence = inferer(SLICES[:1], _of_mask_type("ggo"), [0])[0]
    assert {i.lesion_class for i in evidence.instances} == {LesionClass.GROUND_GLASS_OPACITY}
    with pytest.raises(UsageError, match="mask type merge") as caught:
        inferer(SLICES[:1], _of_mask_type("merge"), [0])
    assert caught.value.code == "MASK_TYPE"


def test_batch_size_is_checked() -> None:
    with pytest.raises(UsageError, match="batch size is 0"):
        SliceInferer(batch_size=0, mask_threshold=0.5)


def test_volumes_are_taken_apart_for_monai() -> None:
    affine = torch.diag(torch.tensor([-0.5, -0.7, 3.0, 1.0], dtype=torch.float64))
    volume: dict[str, Tensor] = {
        "slices": SLICES,
        "slice_indices": torch.tensor(INDICES),
        "volume": MetaTensor(torch.zeros(1, 4, 3, 9), affine),
        "lung_mask": torch.ones(1, 4, 3, 9, dtype=torch.uint8),
    }
    assert single_volume([volume]) is volume
    with pytest.raises(UsageError, match="2 volumes"):
        single_volume([volume, volume])
    slices, target, arguments, named = prepare_volume(volume, torch.device("cpu"), False)
    assert slices is SLICES
    assert target is None
    assert arguments == (INDICES,)
    lungs = named.pop("lungs")
    assert named == {"crop": None, "sampling": None}
    assert lungs.mask.shape == (4, 3, 9)
    assert lungs.spacing == pytest.approx((0.5, 0.7, 3.0))
    assert lungs.slice(2).shape == (3, 4), "rows, columns"
    refused: dict[str, object] = {"slices": SLICES[:0], "slice_indices": [], "volume": "x", "declined": "why"}
    *_, named = prepare_volume(refused, torch.device("cpu"), False)
    assert named["lungs"] is None


def test_the_score_of_a_slice_is_that_of_its_best_lesion_in_the_lungs(model: SliceModel) -> None:
    inferer = SliceInferer(4, 0.1, lesion_rules=LesionRules(min_score=0.0, min_area_mm2=0.0))
    whole = LungSpace(np.ones((90, 70, 12), np.uint8), (1.0, 1.0, 5.0))
    (seen,) = inferer(SLICES[:1], model, [7], lungs=whole)
    assert seen.lesion_score == max(one.score for one in seen.instances) > 0
    (unknown,) = inferer(SLICES[:1], model, [7])
    (none,) = inferer(SLICES[:1], model, [7], lungs=LungSpace(np.zeros_like(whole.mask), whole.spacing))
    assert unknown.lesion_score == none.lesion_score == 0.0
    best = max(seen.instances, key=lambda one: one.score)
    others = np.ones_like(whole.mask)
    row, column = best.offset
    others[column - 9 : column + best.mask.shape[1] + 9, row - 9 : row + best.mask.shape[0] + 9, 7] = 0
    (second,) = inferer(SLICES[:1], model, [7], lungs=LungSpace(others, whole.spacing))
    assert second.lesion_score < seen.lesion_score
    strict = SliceInferer(4, 0.1, lesion_rules=LesionRules(min_score=0.0, min_area_mm2=1e6))
    assert strict(SLICES[:1], model, [7], lungs=whole)[0].lesion_score == 0.0


def test_evidence_of_a_crop_lies_where_the_crop_lies(model: SliceModel) -> None:
    crop = SliceCrop(top=20, left=10, height=32, width=64, full_height=70, full_width=90)
    cut = SLICES[:2, :, 20:52, 10:74]
    inferer = SliceInferer(batch_size=2, mask_threshold=0.5)
    evidence = inferer(cut, model, INDICES[:2], crop=crop)
    scale = model.classifier.transform.scale_of(70, 90)
    for one, output in zip(evidence, model(cut, [scale] * 2), strict=True):
        assert one.logits == tuple(output.logits.double().tolist())
        moved = output.boxes + torch.tensor([10.0, 20.0, 10.0, 20.0])
        pasted = paste_masks_in_image(output.masks, moved, (70, 90))[:, 0].numpy() > 0.5
        expected = [(box, mask) for box, mask in zip(moved.tolist(), pasted, strict=True) if mask.any()]
        assert expected
        for instance, (box, mask) in zip(one.instances, expected, strict=True):
            assert np.array_equal(_drawn([(instance.offset, instance.mask)], (70, 90))[0], mask)
            assert instance.box == pytest.approx(box)
            assert instance.box[0] >= 10
            assert instance.box[1] >= 20
            assert instance.box[2] <= 74
            assert instance.box[3] <= 52


def test_the_whole_slice_is_a_crop_too(model: SliceModel) -> None:
    inferer = SliceInferer(batch_size=2, mask_threshold=0.5)
    whole = inferer(SLICES[:1], model, [3])
    as_crop = inferer(SLICES[:1], model, [3], crop=SliceCrop(0, 0, 70, 90, 70, 90))
    assert _same(whole[0], as_crop[0])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_reading_stops_at_the_same_slice_in_any_batch(model: SliceModel, batch_size: int) -> None:
    sampling = SlicePlan.parse("adaptive").sample(INDICES, 5.0)
    assert sampling.order[: sampling.first_pass] == (4, 8)
    told: list[list[int]] = []

    def settled(read: Sequence[SliceEvidence], _: SliceSampling) -> bool:
        told.append([one.slice_index for one in read])
        return len(read) == 3

    inferer = SliceInferer(batch_size, 0.5, settled)
    read = inferer(SLICES, model, INDICES, sampling=sampling)
    assert told == [[4, 8], [4, 8, 3]], "not before the first pass is done"
    assert [one.slice_index for one in read] == [3, 4, 8]
    whole = SliceInferer(8, 0.5)(SLICES, model, INDICES)
    assert all(_same(one, next(w for w in whole if w.slice_index == one.slice_index)) for one in read)


@pytest.mark.parametrize(
    ("missing", "computed"),
    [
        (lambda read, _: 7 - len(read), [4, 3]),
        # Half a batch at least.
        (lambda *_: 1, [4, 2, 2]),
        (lambda *_: 30, [4, 4]),
        (lambda *_: 0, [4, 4]),
        (lambda *_: None, [4, 4]),
        (None, [4, 4]),
    ],
)
def test_no_more_is_computed_than_is_known_to_be_missing(
    model: SliceModel,
    monkeypatch: pytest.MonkeyPatch,
    missing: Callable[..., int | None] | None,
    computed: list[int],
) -> None:
    indices, batches = list(range(12)), []
    compute = inference._computed

    def counted(network: SliceModel, batch: Tensor, scales: list[float]) -> list[SliceOutput]:
        batches.append(len(batch))
        return compute(network, batch, scales)

    monkeypatch.setattr(inference, "_computed", counted)
    inferer = SliceInferer(4, 0.5, lambda read, _: len(read) == 7, missing)
    sampling = SlicePlan.parse("adaptive").sample(indices, 1.0)
    read = inferer(SLICES[:1].repeat(12, 1, 1, 1), model, indices, sampling=sampling)
    assert sorted(one.slice_index for one in read) == sorted(sampling.order[:7])
    assert batches == computed


def test_only_adaptive_reading_stops(model: SliceModel) -> None:
    inferer = SliceInferer(2, 0.5, settled=lambda *_: True)
    sampling = SlicePlan.parse("all").sample(INDICES, 5.0)
    assert [one.slice_index for one in inferer(SLICES, model, INDICES, sampling=sampling)] == INDICES
    assert [one.slice_index for one in inferer(SLICES, model, INDICES)] == INDICES
