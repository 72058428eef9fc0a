"""Engines exact and fast of a GPU: all slices of a batch in one pass, without loops over slices."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import clip_boxes_to_image

from covid_ct_mask_net.engines.base import FAST_NOTE, Engine, EngineName, Precision, whole_float32
from covid_ct_mask_net.engines.batched_nms import greedy_nms
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.maskness import score_by_masks
from covid_ct_mask_net.networks.slice_model import Shared, SliceOutput
from covid_ct_mask_net.networks.slice_transform import rescaled
from covid_ct_mask_net.results import EngineReport

# torchvision drops detections with a shorter side, in pixels of the resized slice.
_LEAST_SIDE = 1e-2


@dataclass(frozen=True, eq=False)
class _Regions:
    """What a network says about B resized slices of one size.

    Attributes
    ----------
    features
        FPN maps by level name, each (B, 256, h, w).
    proposals
        (B, P, 4) in pixels of the resized slices, best first.
    real
        (B, P) bool; the others only fill up.
    class_logits, deltas
        (B, P, C) and (B, P, C, 4) of C classes, background first; float32.
    size
        Height and width of the resized slices.
    """

    features: dict[str, Tensor]
    proposals: Tensor
    real: Tensor
    class_logits: Tensor
    deltas: Tensor
    size: tuple[int, int]


class BatchedEngine(Engine):
    """Both networks over whole batches: top-k, decoding and suppression of all slices at once on the device.

    Torchvision's RPN and detection heads go through a batch slice by slice and wait for the device at each
    step. Answers are those of `SliceModel` but for rounding.

    Parameters
    ----------
    detector, classifier
        The networks, in test mode; they are moved to the device.
    min_score : float
        Detections below are not outlined.
    name : EngineName
        ``exact``: float32; ``fast``: bfloat16 in the trunk and the heads, float32 in the rest.
    device : torch.device
        One that computes side by side; on a CPU it is for tests.
    """

    def __init__(
        self,
        detector: LesionDetector,
        classifier: CovidCTMaskNet,
        min_score: float,
        *,
        name: EngineName,
        device: torch.device,
    ) -> None:
        super().__init__(detector, classifier, min_score)
        self.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._half = name is EngineName.FAST
        self.report = EngineReport(
            name.value,
            (Precision.BFLOAT16 if self._half else Precision.FLOAT32).value,
            torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            f"torch {torch.__version__}",
            FAST_NOTE if self._half else "",
        )

    @torch.inference_mode()
    def forward(
        self, slices: Tensor | Sequence[Tensor], scales: Sequence[float] | None = None
    ) -> list[SliceOutput]:
        """Return one output a slice, in order, on the CPU; as `SliceModel`."""
        if self.training:
            raise RuntimeError("Engines work in test mode only; call eval() first.")
        transform = self.classifier.transform
        groups: dict[tuple[int, int, float], list[int]] = {}
        for index, image in enumerate(slices):
            height, width = int(image.shape[-2]), int(image.shape[-1])
            scale = transform.scale_of(height, width) if scales is None else float(scales[index])
            groups.setdefault((height, width, scale), []).append(index)
        outputs: dict[int, SliceOutput] = {}
        # TF32 would be as coarse as bfloat16 in what this engine promises to compute in float32.
        with nullcontext() if self._half else whole_float32():
            for (_, _, scale), group in groups.items():
                images = torch.stack([slices[index] for index in group])
                outputs |= dict(zip(group, self._together(images, scale), strict=True))
        return [outputs[index] for index in sorted(outputs)]

    def _together(self, images: Tensor, scale: float) -> list[SliceOutput]:
        """Return the outputs of slices or crops (B, 1, H, W) of one size and scale."""
        regions = self._regions(self.classifier, images, scale)
        logits = self.classifier.s(_ranked_rows(self.classifier, regions)).cpu()
        if self.shared is Shared.NOTHING:
            regions = self._regions(self.detector, images, scale)
        elif self.shared is Shared.PROPOSALS:
            regions = self._box_outputs(
                self.detector, regions.features, regions.proposals, regions.real, regions.size
            )
        found = self._outlines(regions, (int(images.shape[-2]), int(images.shape[-1])))
        return [SliceOutput(logits=one, **detection) for one, detection in zip(logits, found, strict=True)]

    def _autocast(self) -> torch.autocast:
        device = next(self.parameters()).device
        return torch.autocast(device.type, torch.bfloat16, enabled=self._half)

    def _regions(self, network: FasterRCNN, images: Tensor, scale: float) -> _Regions:
        transform = network.transform
        resized = rescaled(transform.normalize(images), scale)
        size = (int(resized.shape[-2]), int(resized.shape[-1]))
        divisor = transform.size_divisible
        padded = functional.pad(resized, (0, -size[1] % divisor, 0, -size[0] % divisor))
        with self._autocast():
            features = network.backbone(padded.contiguous(memory_format=torch.channels_last))
            objectness, deltas = network.rpn.head(list(features.values()))
        maps = {name: one.float() for name, one in features.items()}
        grids = ImageList(padded, [size])
        (anchors,) = network.rpn.anchor_generator(grids, list(maps.values()))
        proposals, real = _proposals(
            network, [o.float() for o in objectness], [d.float() for d in deltas], anchors, size
        )
        return self._box_outputs(network, maps, proposals, real, size)

    def _box_outputs(
        self,
        network: FasterRCNN,
        features: dict[str, Tensor],
        proposals: Tensor,
        real: Tensor,
        size: tuple[int, int],
    ) -> _Regions:
        heads = network.roi_heads
        batch, most, _ = proposals.shape
        with self._autocast():
            pooled = heads.box_roi_pool(features, list(proposals), [size] * batch)
            logits, deltas = heads.box_predictor(heads.box_head(pooled))
        return _Regions(
            features, proposals, real, logits.float().reshape(batch, most, -1),
            deltas.float().reshape(batch, most, -1, 4), size,
        )  # fmt: skip

    def _outlines(self, regions: _Regions, original: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Return the detections of each slice, boxes in pixels of the slices as given, on the CPU."""
        heads = self.detector.roi_heads
        scores, boxes = _lesions(self.detector, regions)
        sides = boxes[..., 2:] - boxes[..., :2]
        fine = (sides >= _LEAST_SIDE).all(-1) & (scores > heads.score_thresh) & regions.real[..., None]
        fine &= _sound(regions)[:, None, None]
        best, places = _ranked(scores, boxes, fine, heads.nms_thresh, heads.detections_per_img)
        wanted = best >= self.min_score
        counts = wanted.sum(1).tolist()
        chosen = boxes.flatten(1, 2).gather(1, places[..., None].expand(-1, -1, 4))[wanted]
        labels = (places % scores.shape[-1] + 1)[wanted]
        with self._autocast():
            pooled = heads.mask_roi_pool(
                regions.features, list(torch.split(chosen, counts)), [regions.size] * len(counts)
            )
            logits = heads.mask_predictor(heads.mask_head(pooled))
        masks = torch.cat(maskrcnn_inference(logits.float(), [labels]))
        columns = {
            "boxes": resize_boxes(chosen, list(regions.size), list(original)),
            "labels": labels,
            "scores": best[wanted],
            "masks": masks,
        }
        parts = {name: torch.split(column.cpu(), counts) for name, column in columns.items()}
        found = [{name: part[index] for name, part in parts.items()} for index in range(len(counts))]
        if self.detector.settings.maskness:
            return [score_by_masks(one, self.min_score) for one in found]
        return found


def _proposals(
    network: FasterRCNN,
    objectness: list[Tensor],
    deltas: list[Tensor],
    anchors: Tensor,
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Return proposals (B, P, 4), best first, and which are real (B, P); see `LogitRankedProposals`."""
    rpn = network.rpn
    boxes: list[Tensor] = []
    logits: list[Tensor] = []
    per_level = torch.split(anchors, [int(one[0].numel()) for one in objectness])
    for level_logits, level_deltas, level_anchors in zip(objectness, deltas, per_level, strict=True):
        batch, at_a_place, height, width = level_logits.shape
        flat = level_logits.permute(0, 2, 3, 1).reshape(batch, -1)
        moves = level_deltas.reshape(batch, at_a_place, 4, height, width).permute(0, 3, 4, 1, 2)
        best, places = flat.topk(min(rpn.pre_nms_top_n(), flat.shape[1]), dim=1)
        moves = moves.reshape(batch, -1, 4).gather(1, places[..., None].expand(-1, -1, 4))
        decoded = rpn.box_coder.decode_single(moves.reshape(-1, 4), level_anchors[places].reshape(-1, 4))
        decoded = clip_boxes_to_image(decoded, size).reshape(batch, -1, 4)
        # False for what is not a number, too.
        fine = (decoded[..., 2:] - decoded[..., :2] >= rpn.min_size).all(-1) & best.isfinite()
        kept = greedy_nms(decoded, fine, rpn.nms_thresh)
        boxes.append(decoded)
        logits.append(best.masked_fill(~kept, -torch.inf))
    all_logits = torch.cat(logits, 1)
    best, places = all_logits.topk(min(rpn.post_nms_top_n(), all_logits.shape[1]), dim=1)
    real = best > -torch.inf
    chosen = torch.cat(boxes, 1).gather(1, places[..., None].expand(-1, -1, 4))
    # RoIAlign would read outside of the features for a box that is not a number.
    return chosen.masked_fill(~real[..., None], 0.0), real


def _lesions(network: FasterRCNN, regions: _Regions) -> tuple[Tensor, Tensor]:
    """Return scores (B, P, L) and boxes (B, P, L, 4) of the L lesion classes, clipped to the slice."""
    scores = torch.softmax(regions.class_logits, -1)[..., 1:]
    batch, most, classes, _ = regions.deltas.shape
    decoded = network.roi_heads.box_coder.decode(
        regions.deltas.reshape(batch * most, -1), [regions.proposals.reshape(-1, 4)]
    )
    boxes = clip_boxes_to_image(decoded.reshape(-1, 4), regions.size)
    return scores, boxes.reshape(batch, most, classes, 4)[:, :, 1:]


def _ranked(
    scores: Tensor, boxes: Tensor, candidates: Tensor, threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """Suppress within slices and classes and rank what is left of each slice.

    Parameters are (B, P, L), (B, P, L, 4) and (B, P, L). Returns scores (B, n), -inf from where there are no
    more, and places (B, n) in the flattened (P, L); n is the count, or less where there are not so many.
    """
    batch, regions, classes = scores.shape
    values = scores.masked_fill(~candidates, -torch.inf).transpose(1, 2).reshape(-1, regions)
    order = values.argsort(dim=1, descending=True, stable=True)
    values = values.gather(1, order)
    grouped = boxes.transpose(1, 2).reshape(-1, regions, 4).gather(1, order[..., None].expand(-1, -1, 4))
    kept = greedy_nms(grouped, values > -torch.inf, threshold)
    values = values.masked_fill(~kept, -torch.inf).reshape(batch, -1)
    lesion = torch.arange(classes, device=scores.device).repeat(batch)[:, None]
    places = (order * classes + lesion).reshape(batch, -1)
    best, at = values.topk(min(count, values.shape[1]), dim=1)
    return best, places.gather(1, at)


def _ranked_rows(network: CovidCTMaskNet, regions: _Regions) -> Tensor:
    """Return the rows (B, N, 5) that S reads; as `ranked_rows`, NaN where the network gives no numbers."""
    heads, wanted = network.roi_heads, network.settings.regions
    scores, boxes = _lesions(network, regions)
    sides = boxes[..., 2:] - boxes[..., :2]
    fine = (sides.prod(-1) > 0) & (scores > heads.score_thresh) & regions.real[..., None]
    best, places = _ranked(scores, boxes, fine, heads.nms_thresh, wanted)
    rows = torch.cat([scores[..., None], regions.deltas[:, :, 1:]], -1).flatten(1, 2)
    found = (best > -torch.inf).sum(1, keepdim=True)
    # As `fill_rows`: m regions are stretched over N rows, none give zeros.
    stretched = torch.arange(wanted, device=best.device)[None] * found // wanted
    rows = rows.gather(1, places.gather(1, stretched)[..., None].expand(-1, -1, rows.shape[-1]))
    rows = rows.masked_fill((found == 0)[..., None], 0.0)
    return rows.masked_fill(~_sound(regions)[:, None, None], torch.nan)


def _sound(regions: _Regions) -> Tensor:
    """Tell for each slice (B,) whether it has regions and the network gave numbers for all of them."""
    finite = regions.class_logits.isfinite().all(-1) & regions.deltas.isfinite().flatten(2).all(-1)
    return (finite | ~regions.real).all(1) & regions.real.any(1)
