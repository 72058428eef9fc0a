"""Compiled graphs and the workers that run them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from builders.engines import light_networks
from builders.networks import random_slices
from covid_ct_mask_net.engines import calibration, programs
from covid_ct_mask_net.engines.base import Precision
from covid_ct_mask_net.engines.cache import GraphCache
from covid_ct_mask_net.engines.post import Floats, ProposedSlice
from covid_ct_mask_net.engines.programs import (
    BOX_BATCH,
    SHAPES_KEPT,
    BoxHeads,
    Compiler,
    MaskBranch,
    Trunk,
    Worker,
)
from covid_ct_mask_net.networks.regions import box_outputs, compute_regions


def test_more_regions_than_a_batch_and_masks_of_their_class() -> None:
    model = light_networks()
    detector = model.detector
    assert detector is not None
    compiler = Compiler(Precision.FLOAT32, Precision.FLOAT32, GraphCache(None))
    worker, trunk = Worker(), Trunk(detector, detector.settings, compiler)
    head = BoxHeads.of([detector], compiler, trunk)
    (image,) = random_slices((64, 96))
    (regions,) = trunk(worker, image[0].numpy(), head)
    many = np.tile(regions.proposals, (4, 1))[: head.batch + 40]
    assert head.batch < len(many)

    def outputs(boxes: Floats) -> tuple[Floats, Floats]:
        seen = ProposedSlice(regions.features, regions.scales, boxes, regions.size)
        (found,) = programs.box_outputs(worker, seen, head)
        return found

    logits, deltas = outputs(many)
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
    none = outputs(many[:0])
    assert (none[0].shape, none[1].shape) == ((0, 3), (0, 12))


def test_two_box_heads_see_what_each_sees_alone() -> None:
    model = light_networks()
    detector, classifier = model.detector, model.classifier
    assert detector is not None
    assert classifier is not None
    compiler = Compiler(Precision.FLOAT32, Precision.FLOAT32, GraphCache(None))
    worker, trunk = Worker(), Trunk(classifier, classifier.detector_settings, compiler)
    (image,) = random_slices((64, 96))
    together = trunk(worker, image[0].numpy(), BoxHeads.of([classifier, detector], compiler, trunk))
    for network, regions in zip((classifier, detector), together, strict=True):
        (alone,) = trunk(worker, image[0].numpy(), BoxHeads.of([network], compiler, trunk))
        assert np.allclose(regions.class_logits, alone.class_logits, atol=1e-5)
        assert np.allclose(regions.deltas, alone.deltas, atol=1e-5)


@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.INT8])
def test_box_heads_of_less_precision_see_nearly_the_same(
    precision: Precision, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if precision is Precision.INT8:
        pytest.importorskip("nncf", reason="nncf (extra engines) is not installed")
    monkeypatch.setattr(calibration, "CALIBRATION_SLICES", 2)
    model = light_networks()
    detector, classifier = model.detector, model.classifier
    assert detector is not None
    assert classifier is not None
    exact = Compiler(Precision.FLOAT32, Precision.FLOAT32, GraphCache(None))
    rough = Compiler(precision, Precision.BFLOAT16, GraphCache(tmp_path))
    worker, trunk = Worker(), Trunk(classifier, classifier.detector_settings, exact)
    (image,) = random_slices((64, 96))
    networks = [classifier, detector]
    true = trunk(worker, image[0].numpy(), BoxHeads.of(networks, exact, trunk))
    heads = BoxHeads.of(networks, rough, trunk)
    found = trunk(worker, image[0].numpy(), heads)
    assert heads.pooled is np.uint16
    assert len(list(tmp_path.glob("*.xml"))) == (1 if precision is Precision.INT8 else 0)
    again = trunk(worker, image[0].numpy(), BoxHeads.of(networks, rough, trunk))
    for one, other, same in zip(true, found, again, strict=True):
        assert not np.array_equal(one.class_logits, other.class_logits)
        away = np.abs(one.class_logits - other.class_logits).max()
        assert away < 0.1 * np.abs(one.class_logits).max()
        assert np.array_equal(other.class_logits, same.class_logits)
        assert np.array_equal(other.deltas, same.deltas)


def test_batches_of_regions_are_filled_by_the_proposals() -> None:
    detector = light_networks().detector
    assert detector is not None
    compiler = Compiler(Precision.FLOAT32, Precision.FLOAT32, GraphCache(None))
    proposals = int(detector.rpn.post_nms_top_n())
    trunk = Trunk(detector, detector.settings, compiler)
    batch = BoxHeads.of([detector], compiler, trunk).batch
    assert batch <= BOX_BATCH
    # Computed beyond what is needed: less than one region a batch.
    assert -(-proposals // batch) * batch - proposals < -(-proposals // batch)


def test_graphs_of_the_sizes_that_were_used_last_are_kept() -> None:
    """Each takes megabytes of every worker, and the crops of each study may be of another size."""
    detector = light_networks().detector
    assert detector is not None
    trunk = Trunk(
        detector, detector.settings, Compiler(Precision.FLOAT32, Precision.FLOAT32, GraphCache(None))
    )
    worker = Worker()
    sizes = [(32, 32 * n) for n in range(1, SHAPES_KEPT + 3)]
    first = trunk.program(sizes[0])
    for size in sizes[1:SHAPES_KEPT]:
        worker.prepare(trunk.program(size))
    assert trunk.program(sizes[0]) is first, "used again"
    for size in sizes[SHAPES_KEPT:]:
        worker.prepare(trunk.program(size))
    assert trunk.program(sizes[0]) is first
    assert len(trunk._programs) == SHAPES_KEPT
    assert len(worker._requests) == SHAPES_KEPT - 1, "requests go with their graphs"
    whole_batch = trunk.programs(sizes)
    assert len(trunk._programs) == len(sizes), "a batch is not compiled slice by slice"
    assert {id(program) for program in whole_batch} == {id(trunk.program(size)) for size in sizes}


def test_answers_are_the_same_after_a_graph_was_dropped() -> None:
    detector = light_networks().detector
    assert detector is not None
    compiler = Compiler(Precision.FLOAT32, Precision.FLOAT32, GraphCache(None))
    worker, trunk = Worker(), Trunk(detector, detector.settings, compiler)
    head = BoxHeads.of([detector], compiler, trunk)
    (image,) = random_slices((64, 96))
    before = trunk(worker, image[0].numpy(), head)[0].class_logits.copy()
    for n in range(1, SHAPES_KEPT + 2):
        worker.prepare(trunk.program((32, 32 * n)))
    assert (64, 96) not in trunk._programs
    assert np.array_equal(trunk(worker, image[0].numpy(), head)[0].class_logits, before)


def test_a_worker_keeps_the_buffers_that_were_used_last() -> None:
    worker = Worker()
    pooled = worker.buffer(7, 7)
    for n in range(1, 100):
        worker.buffer(1, n)
        assert worker.buffer(7, 7) is pooled
    assert len(worker._buffers) <= 2 * SHAPES_KEPT


def test_a_worker_keeps_one_buffer_a_shape() -> None:
    worker = Worker()
    first = worker.buffer(2, 3)
    first[:] = 7.0
    assert worker.buffer(2, 3) is first
    assert worker.buffer(3, 2) is not first
    bits = worker.buffer(2, 3, kind=np.uint16)
    assert bits is not first
    assert bits.dtype == np.uint16
