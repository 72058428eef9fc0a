"""Compiled graphs and the workers that run them."""

from __future__ import annotations

import numpy as np
import torch

from builders.engines import light_networks
from builders.networks import random_slices
from covid_ct_mask_net.engines import programs
from covid_ct_mask_net.engines.base import Precision
from covid_ct_mask_net.engines.cache import GraphCache
from covid_ct_mask_net.engines.programs import BOX_BATCH, BoxHead, Compiler, MaskBranch, Trunk, Worker
from covid_ct_mask_net.networks.regions import box_outputs, compute_regions


def test_more_regions_than_a_batch_and_masks_of_their_class() -> None:
    model = light_networks()
    detector = model.detector
    assert detector is not None
    compiler = Compiler(Precision.FLOAT32, Precision.FLOAT32, 1, GraphCache(None))
    worker, head = Worker(), BoxHead.of(detector, compiler)
    trunk = Trunk(detector, detector.settings, compiler)
    (image,) = random_slices((64, 96))
    trunk.prepare((64, 96))
    (regions,) = trunk(worker, image[0].numpy(), head)
    many = np.tile(regions.proposals, (4, 1))[: head.batch + 40]
    assert head.batch < len(many)
    ((logits, deltas),) = programs.box_outputs(worker, regions.features, regions.scales, many, [head])
    with torch.no_grad():
        expected = compute_regions(detector, [image], [1.0])
        scores, moves = box_outputs(
            detector, expected.features, [torch.from_numpy(many)], expected.image_sizes
        )
        boxes = torch.from_numpy(regions.proposals[:6])
        pooled = detector.roi_heads.mask_roi_pool(expected.features, [boxes], expected.image_sizes)
        masks = detector.roi_heads.mask_predictor(detector.roi_heads.mask_head(pooled)).sigmoid()
    assert np.allclose(logits, scores.numpy(), atol=1e-4)
    assert np.allclose(deltas, moves.numpy(), atol=1e-4)
    labels = np.asarray([1, 2, 1, 2, 2, 1])
    found = MaskBranch(detector.roi_heads, compiler)(worker, regions, regions.proposals[:6], labels)
    assert np.allclose(found[:, 0], masks[torch.arange(6), torch.from_numpy(labels)].numpy(), atol=1e-4)
    (none,) = programs.box_outputs(worker, regions.features, regions.scales, many[:0], [head])
    assert (none[0].shape, none[1].shape) == ((0, 3), (0, 12))


def test_two_box_heads_see_what_each_sees_alone() -> None:
    model = light_networks()
    detector, classifier = model.detector, model.classifier
    assert detector is not None
    assert classifier is not None
    compiler = Compiler(Precision.FLOAT32, Precision.FLOAT32, 1, GraphCache(None))
    worker, heads = Worker(), [BoxHead.of(network, compiler) for network in (classifier, detector)]
    trunk = Trunk(classifier, classifier.detector_settings, compiler)
    (image,) = random_slices((64, 96))
    trunk.prepare((64, 96))
    together = trunk(worker, image[0].numpy(), *heads)
    for head, regions in zip(heads, together, strict=True):
        (alone,) = trunk(worker, image[0].numpy(), head)
        assert np.array_equal(regions.class_logits, alone.class_logits)
        assert np.array_equal(regions.deltas, alone.deltas)


def test_batches_of_regions_are_filled_by_the_proposals() -> None:
    detector = light_networks().detector
    assert detector is not None
    compiler = Compiler(Precision.FLOAT32, Precision.FLOAT32, 1, GraphCache(None))
    proposals = int(detector.rpn.post_nms_top_n())
    batch = BoxHead.of(detector, compiler).batch
    assert batch <= BOX_BATCH
    # Computed beyond what is needed: less than one region a batch.
    assert -(-proposals // batch) * batch - proposals < -(-proposals // batch)


def test_a_worker_keeps_one_buffer_a_shape() -> None:
    worker = Worker()
    first = worker.buffer(2, 3)
    first[:] = 7.0
    assert worker.buffer(2, 3) is first
    assert worker.buffer(3, 2) is not first
