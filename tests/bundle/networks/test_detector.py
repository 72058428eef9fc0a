"""Mask R-CNN: size, losses, detections."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from builders.networks import random_slices, small_trunk
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.regions import compute_regions
from covid_ct_mask_net.networks.settings import DetectorSettings, light_detector_settings

LOSSES = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"}


@pytest.fixture(scope="module")
def detector() -> LesionDetector:
    torch.manual_seed(2)
    return LesionDetector(small_trunk(roi_score=0.2, detections=12)).eval()


def _target(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> dict[str, Tensor]:
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.arange(1, len(boxes) + 1).clamp(max=2),
        "masks": masks,
    }


@pytest.mark.parametrize(
    ("settings", "total", "trained"),
    [
        # Paper: 31.78M, with batch-norm buffers. Light: computed for paper.md A1.
        (DetectorSettings(), 31_781_917, 31_728_744),
        (light_detector_settings(backbone="resnet34", truncation=0), 24.64, None),
        (light_detector_settings(backbone="resnet34", truncation=1), 11.45, None),
        (light_detector_settings(backbone="resnet34", truncation=2), 4.59, None),
        (light_detector_settings(backbone="resnet18", truncation=0), 14.52, None),
        (light_detector_settings(backbone="resnet18", truncation=1), 6.06, None),
        (light_detector_settings(backbone="resnet18", truncation=2), 3.92, None),
    ],
    ids=["resnet50", "r34t0", "r34t1", "r34t2", "r18t0", "r18t1", "r18t2"],
)
def test_size_is_that_of_the_paper(settings: DetectorSettings, total: float, trained: int | None) -> None:
    with torch.device("meta"):
        network = LesionDetector(settings)
    found = sum(tensor.numel() for tensor in network.state_dict().values())
    if trained is None:
        assert round(found / 1e6, 2) == total
    else:
        assert found == total
        assert sum(p.numel() for p in network.parameters()) == trained


def test_five_named_losses_add_up_to_eq_1(detector: LesionDetector) -> None:
    detector.train()
    targets = [_target((64, 64), (5, 5, 30, 40), (40, 20, 60, 50)), _target((80, 70), (10, 10, 50, 60))]
    before = [{key: value.clone() for key, value in target.items()} for target in targets]
    torch.manual_seed(0)
    losses = detector(random_slices((64, 64), (80, 70)), targets)
    detector.eval()
    assert isinstance(losses, dict)
    assert set(losses) == LOSSES
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total)
    assert all(loss > 0 for loss in losses.values())
    detector.zero_grad()
    total.backward()
    branches = ("backbone.body.conv1.weight", "rpn.head.bbox_pred.weight", "roi_heads.mask_head.0.0.weight")
    weights = dict(detector.named_parameters())
    for branch in branches:
        gradient = weights[branch].grad
        assert gradient is not None
        assert gradient.abs().sum() > 0, branch
    for target, old in zip(targets, before, strict=True):
        assert all(torch.equal(target[key], old[key]) for key in old), (
            "targets of the caller stay as they were"
        )


def test_slices_without_lesions_train(detector: LesionDetector) -> None:
    detector.train()
    losses = detector(random_slices((64, 64), (90, 70)), [_target((64, 64)), _target((90, 70))])
    detector.eval()
    assert isinstance(losses, dict)
    assert set(losses) == LOSSES
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_box_reg"] == 0
    assert losses["loss_mask"] == 0
    torch.stack(list(losses.values())).sum().backward()


@torch.no_grad()
def test_detections_have_the_documented_form(detector: LesionDetector) -> None:
    for images in (torch.cat(random_slices((64, 64), (64, 64)))[:, None], random_slices((100, 70), (64, 90))):
        found = detector(images)
        assert isinstance(found, list)
        assert len(found) == 2
        for image, detection in zip(images, found, strict=True):
            height, width = image.shape[-2:]
            count = len(detection["scores"])
            assert 0 < count <= 12
            assert detection["boxes"].shape == (count, 4)
            assert detection["boxes"].min() >= 0
            assert detection["boxes"][:, 2].max() <= width
            assert set(detection["labels"].tolist()) <= {1, 2}
            assert (detection["scores"] >= 0.2).all()
            assert (detection["scores"].diff() <= 0).all()
            assert detection["masks"].shape == (count, 1, height, width)
            assert 0 <= detection["masks"].min() <= detection["masks"].max() <= 1


@torch.no_grad()
def test_detections_are_those_of_torchvisions_own_loop(detector: LesionDetector) -> None:
    (image,) = random_slices((70, 100), seed=4)
    theirs = GeneralizedRCNN.forward(detector, [image])[0]
    ours = detector([image])[0]
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key


@torch.no_grad()
def test_detections_do_not_depend_on_the_batch(detector: LesionDetector) -> None:
    slices = random_slices((64, 64), (100, 70), (64, 64))
    alone = [detector([image])[0] for image in slices]
    together = detector(slices[::-1])[::-1]
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


@torch.no_grad()
def test_masks_are_outlined_from_a_score_on(detector: LesionDetector) -> None:
    regions = compute_regions(detector, random_slices((100, 70)))
    (all_found,) = detector.outline_in_slices(regions, 0.0)
    least = float(all_found["scores"][3])
    (found,) = detector.outline_in_slices(regions, least)
    assert len(found["scores"]) == int((all_found["scores"] >= least).sum())
    assert found["masks"].shape == (len(found["scores"]), 1, 28, 28)
    (pasted,) = detector.detect(regions)
    assert torch.equal(pasted["boxes"], all_found["boxes"])
    (none,) = detector.outline_in_slices(regions, 1.1)
    assert none["boxes"].shape == (0, 4)
    assert none["masks"].shape == (0, 1, 28, 28)


def test_mask_types_set_the_number_of_classes() -> None:
    for mask_type, classes in (("both", 3), ("ggo", 2), ("merge", 2)):
        with torch.device("meta"):
            network = LesionDetector(small_trunk(mask_type=mask_type))
        assert network.roi_heads.box_predictor.cls_score.out_features == classes
        assert network.roi_heads.mask_predictor.mask_fcn_logits.out_channels == classes


def test_settings_reach_torchvision() -> None:
    with torch.device("meta"):
        network = LesionDetector(DetectorSettings(rpn_foreground_iou=0.75, roi_nms=0.6))
    assert network.rpn.nms_thresh == 0.75
    assert network.rpn.proposal_matcher.high_threshold == 0.75
    assert network.rpn.fg_bg_sampler.positive_fraction == 0.75
    assert network.rpn.min_size == 0
    assert (network.roi_heads.nms_thresh, network.roi_heads.score_thresh) == (0.6, 0.05)
    assert network.roi_heads.proposal_matcher.low_threshold == 0.5
    assert network.roi_heads.fg_bg_sampler.batch_size_per_image == 256
    assert network.rpn.anchor_generator.num_anchors_per_location() == [30] * 4
