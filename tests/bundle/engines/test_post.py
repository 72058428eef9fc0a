"""Proposals, rows and detections on arrays are those of the networks' own code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from builders.engines import large_networks
from builders.networks import random_slices
from covid_ct_mask_net.engines.post import (
    BoxRules,
    ProposalRules,
    SliceRegions,
    box_levels,
    detections,
    pool_regions,
    propose,
    rank_rows,
)
from covid_ct_mask_net.networks.regions import Regions, compute_regions

SCALES = (0.25, 0.125, 0.0625, 0.03125)


def _channels_last(maps: list[Tensor]) -> list[np.ndarray]:
    return [np.ascontiguousarray(m[0].permute(1, 2, 0).numpy()) for m in maps]


def _as_arrays(regions: Regions) -> SliceRegions:
    return SliceRegions(
        tuple(_channels_last(list(regions.features.values()))), SCALES, regions.proposals[0].numpy(),
        regions.image_sizes[0], regions.class_logits.numpy(), regions.box_regression.numpy(),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_every_step_equals_the_networks_own(seed: int) -> None:
    model = large_networks()
    detector, classifier = model.detector, model.classifier
    assert detector is not None
    assert classifier is not None
    with torch.no_grad():
        regions = compute_regions(classifier, random_slices((128, 160), seed=seed))
        rows = classifier.rank(regions)[0]
        (found,) = detector._outline(regions, 0.25)
        objectness, deltas = classifier.rpn.head(list(regions.features.values()))
    proposals = propose(
        _channels_last(objectness),
        _channels_last(deltas),
        ProposalRules.of(classifier),
        (128, 160),
        (128, 160),
    )
    assert np.allclose(proposals, regions.proposals[0].numpy(), atol=1e-3)
    arrays = _as_arrays(regions)
    assert np.allclose(rank_rows(arrays, BoxRules.of(classifier)), rows.numpy(), atol=1e-5)
    boxes, scores, labels = detections(arrays, BoxRules.of(detector), 0.25)
    assert np.allclose(boxes, found["boxes"].numpy(), atol=1e-3)
    assert np.allclose(scores, found["scores"].numpy(), atol=1e-6)
    assert np.array_equal(labels, found["labels"].numpy())
    assert len(scores)


def test_regions_are_pooled_from_the_level_of_their_size() -> None:
    generator = torch.Generator().manual_seed(0)
    names = ["0", "1", "2", "3"]
    features = {
        name: torch.randn(1, 8, 512 // 4 >> i, 512 // 4 >> i, generator=generator)
        for i, name in enumerate(names)
    }
    corner = torch.rand(80, 2, generator=generator) * 200
    boxes = torch.cat([corner, corner + torch.linspace(0, 400, 80)[:, None]], 1).clamp(max=512)
    expected = MultiScaleRoIAlign(names, 7, 2)(features, [boxes], [(512, 512)])
    pooled = np.zeros((80, 49, 8), np.float32)
    pool_regions(_channels_last(list(features.values())), SCALES, boxes.numpy(), pooled, 7)
    found = torch.from_numpy(pooled).permute(0, 2, 1).reshape(80, 8, 7, 7)
    assert torch.allclose(found, expected, atol=1e-4)
    assert set(box_levels(boxes.numpy(), SCALES).tolist()) == {0, 1, 2}


@pytest.mark.parametrize("regions", [0, 4])
def test_no_numbers_and_no_regions_give_no_answer(regions: int) -> None:
    none = np.full((regions, 3), np.nan, np.float32)
    empty = SliceRegions((), (), np.zeros((regions, 4), np.float32), (64, 64), none, np.tile(none, 4))
    rules = BoxRules(np.float32(0.5), np.float32(-0.01), 6, np.ones(4, np.float32))
    assert np.isnan(rank_rows(empty, rules)).all()
    assert len(detections(empty, rules, 0.0)[0]) == 0


def test_few_regions_are_stretched_and_none_of_area_gives_zeros() -> None:
    logits = np.asarray([[0.0, 2.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
    proposals = np.asarray([[0, 0, 20, 20], [30, 30, 50, 50]], np.float32)
    deltas = np.zeros((2, 12), np.float32)
    rules = BoxRules(np.float32(0.5), np.float32(-0.01), 8, np.ones(4, np.float32))
    rows = rank_rows(SliceRegions((), (), proposals, (64, 64), logits, deltas), rules)
    scores = rows[:, 0].tolist()
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4, "two regions, two classes, each twice"
    flat = SliceRegions((), (), np.zeros((2, 4), np.float32), (64, 64), logits, deltas)
    assert not rank_rows(flat, rules).any()
