"""From the outputs of the convolutions to proposals, ranked rows and detections, slice by slice on a CPU.

The same steps as `LogitRankedProposals`, `ranked_rows` and torchvision's ``postprocess_detections``, on numpy
arrays and compiled kernels: only the anchors that survive the top-k are decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torchvision.models.detection.faster_rcnn import FasterRCNN

from covid_ct_mask_net.engines import kernels
from covid_ct_mask_net.networks.ranked_rows import ROW_WIDTH

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

# torchvision's postprocess_detections drops boxes with a shorter side.
_LEAST_DETECTION_SIDE = np.float32(1e-2)


@dataclass(frozen=True, eq=False)
class ProposalRules:
    """What proposals depend on besides the RPN's outputs.

    Attributes
    ----------
    cells
        (A, 4) anchors around the origin, one array a level.
    before, after
        Proposals kept a level before NMS, and in all after it.
    nms
        Overlap from which on the lower of two proposals is dropped; above it, strictly.
    least_side
        Boxes with a shorter side are dropped.
    weights
        (4,) of the box coder.
    """

    cells: tuple[Floats, ...]
    before: int
    after: int
    nms: np.float32
    least_side: np.float32
    weights: Floats

    @classmethod
    def of(cls, network: FasterRCNN) -> ProposalRules:
        """Return the rules of a network in test mode."""
        rpn = network.rpn
        return cls(
            cells=tuple(
                np.ascontiguousarray(cell.detach().cpu().numpy(), dtype=np.float32)
                for cell in rpn.anchor_generator.cell_anchors
            ),
            before=int(rpn.pre_nms_top_n()),
            after=int(rpn.post_nms_top_n()),
            nms=np.float32(rpn.nms_thresh),
            least_side=np.float32(rpn.min_size),
            weights=np.asarray(rpn.box_coder.weights, dtype=np.float32),
        )


@dataclass(frozen=True, eq=False)
class BoxRules:
    """Thresholds of the box head's outputs and how many regions are kept."""

    nms: np.float32
    min_score: np.float32
    most: int
    weights: Floats

    @classmethod
    def of(cls, network: FasterRCNN) -> BoxRules:
        """Return the rules of a network."""
        heads = network.roi_heads
        return cls(
            nms=np.float32(heads.nms_thresh),
            min_score=np.float32(heads.score_thresh),
            most=int(heads.detections_per_img),
            weights=np.asarray(heads.box_coder.weights, dtype=np.float32),
        )


@dataclass(frozen=True, eq=False)
class ProposedSlice:
    """One slice before the box head.

    Attributes
    ----------
    features
        Feature maps (h, w, 256), finest first.
    scales
        Cells a pixel of each.
    proposals
        (P, 4) in pixels of the resized slice, best first.
    size
        Height and width of the resized slice.
    """

    features: tuple[Floats, ...]
    scales: tuple[float, ...]
    proposals: Floats
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class SliceRegions(ProposedSlice):
    """One slice after the box head.

    Attributes
    ----------
    class_logits, deltas
        (P, C) and (P, 4 C) of the box head.
    """

    class_logits: Floats
    deltas: Floats

    @property
    def finite(self) -> bool:
        """Whether the networks gave numbers."""
        return bool(
            len(self.class_logits) and np.isfinite(self.class_logits).all() and np.isfinite(self.deltas).all()
        )


def propose(
    objectness: Sequence[Floats],
    deltas: Sequence[Floats],
    rules: ProposalRules,
    padded: tuple[int, int],
    size: tuple[int, int],
) -> Floats:
    """Return the proposals (P, 4) of a slice, best first.

    Parameters
    ----------
    objectness, deltas
        (h, w, A) and (h, w, 4 A) of each level.
    rules : ProposalRules
    padded, size : (int, int)
        Height and width of the network's input, and of the slice within it.
    """
    boxes, logits = [], []
    for level, cells in enumerate(rules.cells):
        height, width, _ = objectness[level].shape
        scores = objectness[level].reshape(-1)
        best = kernels.top_k(scores, rules.before)
        stride = np.asarray([padded[0] // height, padded[1] // width], dtype=np.float32)
        anchors = kernels.level_anchors(cells, best, width, stride)
        moved = kernels.decode(
            anchors,
            deltas[level].reshape(-1, 4)[best],
            rules.weights,
            np.float32(size[0]),
            np.float32(size[1]),
        )
        large = kernels.at_least(moved, rules.least_side)
        kept = large[kernels.nms(moved[large], rules.nms, rules.after)]
        boxes.append(moved[kept])
        logits.append(scores[best[kept]])
    order = np.argsort(-np.concatenate(logits), kind="stable")[: rules.after]
    return np.concatenate(boxes)[order]


def rank_rows(regions: SliceRegions, rules: BoxRules) -> Floats:
    """Return the ranked rows (N, 5) of a slice; not numbers where the networks gave none."""
    count = rules.most
    if not regions.finite:
        return np.full((count, ROW_WIDTH), np.nan, dtype=np.float32)
    scores = kernels.softmax(regions.class_logits)
    found = []
    for lesion in range(1, scores.shape[1]):
        boxes = _decoded(regions, lesion, rules)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        candidates = np.flatnonzero((area > 0) & (scores[:, lesion] > rules.min_score))
        kept = _suppressed(boxes, scores[:, lesion], candidates, rules.nms, count)
        found.append(kept * (scores.shape[1] - 1) + lesion - 1)
    # Pairs of region and class: between equal scores, the one that torch's ranking finds first.
    pairs = np.sort(np.concatenate(found))
    region, label = np.divmod(pairs, scores.shape[1] - 1)
    order = np.argsort(-scores[region, label + 1], kind="stable")[:count]
    region, label = region[order], label[order] + 1
    encoded = regions.deltas.reshape(len(scores), -1, 4)[region, label]
    rows = np.concatenate([scores[region, label][:, None], encoded], axis=1)
    if not len(rows):
        return np.zeros((count, ROW_WIDTH), dtype=np.float32)
    # As fill_rows: row r takes region floor(r m / count).
    filled: Floats = rows[np.arange(count) * len(rows) // count]
    return filled


def detections(regions: SliceRegions, rules: BoxRules, min_score: float) -> tuple[Floats, Floats, Integers]:
    """Return boxes (n, 4) in pixels of the resized slice, scores (n,) and labels (n,), best first.

    Parameters
    ----------
    regions : SliceRegions
    rules : BoxRules
        Of the lesion detector.
    min_score : float
        Detections below are left out, after those above the detector's threshold were counted.
    """
    if not regions.finite:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    scores = kernels.softmax(regions.class_logits)
    boxes, values, labels = [], [], []
    for label in range(1, scores.shape[1]):
        decoded = _decoded(regions, label, rules)
        sure = np.flatnonzero(scores[:, label] > rules.min_score)
        candidates = sure[kernels.at_least(decoded[sure], _LEAST_DETECTION_SIDE)]
        kept = _suppressed(decoded, scores[:, label], candidates, rules.nms, rules.most)
        boxes.append(decoded[kept])
        values.append(scores[kept, label])
        labels.append(np.full(len(kept), label, dtype=np.int64))
    all_scores = np.concatenate(values)
    order = np.argsort(-all_scores, kind="stable")[: rules.most]
    order = order[all_scores[order] >= np.float32(min_score)]
    return np.concatenate(boxes)[order], all_scores[order], np.concatenate(labels)[order]


def pool_regions(
    features: Sequence[Floats], scales: Sequence[float], boxes: Floats, pooled: kernels.Pooled, side: int
) -> None:
    """Pool boxes (n, 4) from the level that fits the size of each, into ``pooled`` (n, side * side, 256)."""
    level = box_levels(boxes, scales)
    for number, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        places = np.flatnonzero(level == number)
        if len(places):
            kernels.roi_align(feature, boxes, np.float32(scale), places, pooled, side)


def box_levels(boxes: Floats, scales: Sequence[float]) -> Integers:
    """Return the level of each box (Eq. 1 of the FPN paper; torchvision: 224 pixels go to level 4)."""
    lowest, highest = -np.log2(scales[0]), -np.log2(scales[-1])
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    with np.errstate(divide="ignore"):
        level = np.floor(np.float32(4.0) + np.log2(sides / np.float32(224.0)) + np.float32(1e-6))
    return np.asarray(np.clip(level, lowest, highest) - lowest, dtype=np.int64)


def _decoded(regions: SliceRegions, label: int, rules: BoxRules) -> Floats:
    deltas = np.ascontiguousarray(regions.deltas[:, 4 * label : 4 * label + 4])
    height, width = regions.size
    return kernels.decode(regions.proposals, deltas, rules.weights, np.float32(height), np.float32(width))


def _suppressed(
    boxes: Floats, scores: Floats, candidates: Integers, threshold: np.float32, most: int
) -> Integers:
    """Return the candidates that NMS keeps, best first."""
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    kept: Integers = order[kernels.nms(boxes[order], threshold, most)]
    return kept
