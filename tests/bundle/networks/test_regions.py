"""What both networks share of a slice, and which slices go through a network together."""

from __future__ import annotations

import pytest
import torch

from builders.networks import random_slices, small_model, small_trunk
from covid_ct_mask_net.networks.regions import compute_regions, passes
from covid_ct_mask_net.networks.slice_transform import SliceTransform


@pytest.fixture(scope="module")
def transform() -> SliceTransform:
    return SliceTransform(small_trunk())


def test_on_a_cpu_each_slice_has_its_own_pass(transform: SliceTransform) -> None:
    slices = random_slices((64, 64), (80, 64), (64, 64))
    assert sorted(passes(transform, slices)) == [[0], [1], [2]]


def test_on_an_accelerator_slices_of_one_resized_shape_share_a_pass(transform: SliceTransform) -> None:
    shapes = [(64, 64), (64, 96), (128, 128), (32, 48)]
    slices = [torch.empty(1, *shape, device="meta") for shape in shapes]
    assert sorted(passes(transform, slices)) == [[0, 2], [1, 3]]


def test_a_tensor_counts_as_its_slices(transform: SliceTransform) -> None:
    assert list(passes(transform, torch.zeros(3, 1, 64, 64))) == [[0], [1], [2]]
    assert list(passes(transform, [])) == []


@torch.no_grad()
def test_regions_have_one_row_a_proposal() -> None:
    detector = small_model().detector
    assert detector is not None
    regions = compute_regions(detector, random_slices((100, 80), (100, 80)))
    assert regions.original_sizes == [(100, 80), (100, 80)]
    assert regions.image_sizes == [(80, 64), (80, 64)]
    assert [len(boxes) for boxes in regions.proposals] == [60, 60]
    assert regions.class_logits.shape == (120, 3)
    assert regions.box_regression.shape == (120, 12)


@torch.no_grad()
def test_proposals_of_no_area_are_kept() -> None:
    """Anchors of size 2 and ratio 0.1 have zero height; the paper's code lets them through."""
    detector = small_model().detector
    assert detector is not None
    for parameter in detector.rpn.head.parameters():
        parameter.zero_()
    # Only the first anchor of each location (ratio 0.1, size 2) is an object.
    detector.rpn.head.cls_logits.bias[0] = 9.0
    (boxes,) = compute_regions(detector, random_slices((64, 64))).proposals
    heights = boxes[:, 3] - boxes[:, 1]
    assert (heights == 0).sum() >= 50
    detector.rpn.min_size = 1e-3
    (boxes,) = compute_regions(detector, random_slices((64, 64))).proposals
    assert (boxes[:, 3] > boxes[:, 1]).all()
