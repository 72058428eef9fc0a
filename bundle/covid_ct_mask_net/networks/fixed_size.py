"""Both networks with fixed output sizes and tensor operations only, for TorchScript, ONNX and TensorRT.

How many regions a slice has depends on its content; exporters want to know it beforehand. Here regions that
non-maximum suppression drops stay in place and are marked, so every tensor has one size, and only the
suppression itself has an output of unknown length. The answers are those of `CovidCTMaskNet` and
`LesionDetector`: same weights (the modules are shared, not copied), same order, same thresholds.
"""

# No postponed annotations here: TorchScript reads those of the class attributes.
import math

import torch
from torch import Tensor, nn
from torch.jit._trace import is_tracing
from torch.nn import functional
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNN
from torchvision.ops import clip_boxes_to_image, nms, roi_align

from covid_ct_mask_net.networks.maskness import maskness
from covid_ct_mask_net.networks.slice_transform import rescaled


class FixedSizeTrunk(nn.Module):
    """Resize, backbone, FPN, RPN and box head of a network in test mode, one slice at a time.

    Parameters
    ----------
    network : FasterRCNN
        `CovidCTMaskNet` or `LesionDetector`; its modules are shared.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        transform, rpn, heads = network.transform, network.rpn, network.roi_heads
        self.min_size = int(transform.min_size[-1])
        self.max_size = int(transform.max_size)
        self.register_buffer("mean", torch.tensor(transform.image_mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(transform.image_std)[:, None, None], persistent=False)
        self.backbone = network.backbone
        self.rpn_head = rpn.head
        self.anchor_generator = rpn.anchor_generator
        self.rpn_coder = rpn.box_coder
        self.rpn_pre_nms = int(rpn._pre_nms_top_n["testing"])
        self.rpn_post_nms = int(rpn._post_nms_top_n["testing"])
        self.rpn_nms = float(rpn.nms_thresh)
        self.rpn_min_side = float(rpn.min_size)
        self.box_head = heads.box_head
        self.box_predictor = heads.box_predictor
        self.box_coder = heads.box_coder
        self.box_size = int(heads.box_roi_pool.output_size[0])
        self.sampling = int(heads.box_roi_pool.sampling_ratio)
        # Sizes that the backbone takes are multiples of this.
        self.divisor = int(transform.size_divisible)
        # Which FPN level a box is pooled from (FPN paper, Eq. 1; torchvision's LevelMapper).
        self.canonical_size, self.canonical_level, self.level_epsilon = 224.0, 4, 1e-6

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor, Tensor, int, int]:
        """Return the regions of a slice (1, H, W) in [0, 1].

        Returns
        -------
        features : list of Tensor
            FPN maps, each (1, 256, h, w).
        proposals, kept : Tensor
            (P, 4) in pixels of the resized slice, best first, and (P,) bool: False for those that stand in
            for proposals that were suppressed.
        class_logits, box_regression : Tensor
            (P, classes with background) and (P, classes * 4).
        height, width : int
            Size of the resized slice.
        """
        resized = self._resize((image - self.mean) / self.std)
        height, width = int(resized.shape[-2]), int(resized.shape[-1])
        bottom = (height + self.divisor - 1) // self.divisor * self.divisor - height
        right = (width + self.divisor - 1) // self.divisor * self.divisor - width
        padded = functional.pad(resized[None], [0, right, 0, bottom])
        features = list(self.backbone(padded).values())
        proposals, kept = self._proposals(padded, features, height, width)
        pooled = self.pool(features, proposals, height, self.box_size)
        class_logits, box_regression = self.box_predictor(self.box_head(pooled))
        return features, proposals, kept, class_logits, box_regression, height, width

    def _resize(self, image: Tensor) -> Tensor:
        """Resize as `SliceTransform` does."""
        height, width = int(image.shape[-2]), int(image.shape[-1])
        scale = min(self.min_size / min(height, width), self.max_size / max(height, width))
        return rescaled(image[None], scale)[0]

    def _proposals(
        self, padded: Tensor, features: list[Tensor], height: int, width: int
    ) -> tuple[Tensor, Tensor]:
        """Return the best proposals (P, 4) and which of them survived suppression (P,)."""
        objectness, deltas = self.rpn_head(features)
        anchors = self.anchor_generator(ImageList(padded, [(height, width)]), features)[0]
        boxes: list[Tensor] = []
        scores: list[Tensor] = []
        start = 0
        for level_objectness, level_deltas in zip(objectness, deltas):  # noqa: B905 (TorchScript)
            per_location = int(level_objectness.shape[1])
            flat = level_objectness[0].permute(1, 2, 0).reshape(-1)
            count = int(flat.shape[0])
            flat_deltas = (
                level_deltas[0]
                .reshape(per_location, 4, level_deltas.shape[2], level_deltas.shape[3])
                .permute(2, 3, 0, 1)
                .reshape(-1, 4)
            )
            best = flat.topk(min(self.rpn_pre_nms, count))[1]
            level_boxes = self.rpn_coder.decode(flat_deltas[best], [anchors[start : start + count][best]])
            level_boxes = clip_boxes_to_image(level_boxes.reshape(-1, 4), (height, width))
            sides = level_boxes[:, 2:] - level_boxes[:, :2]
            fine = (sides >= self.rpn_min_side).all(dim=1)
            boxes.append(level_boxes)
            scores.append(_suppressed(level_boxes, flat[best], fine, self.rpn_nms))
            start += count
        best_scores, order = torch.cat(scores).topk(
            min(self.rpn_post_nms, sum([int(s.shape[0]) for s in scores]))
        )
        kept = best_scores > float("-inf")
        # Nothing is pooled from boxes that are not finite: RoIAlign would read outside of the features.
        proposals = torch.cat(boxes)[order]
        return torch.where(kept[:, None], proposals, torch.zeros_like(proposals)), kept

    def pool(self, features: list[Tensor], boxes: Tensor, height: int, size: int) -> Tensor:
        """Return RoIAlign features (P, 256, size, size) of boxes, each from the FPN level of its size."""
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
        # torchvision's rule: the power of two next to the ratio of heights.
        exponents = [
            float(round(math.log(float(f.shape[-2]) / height) / math.log(2.0))) for f in features
        ]  # fmt: skip
        pooled = roi_align(features[0], rois, [size, size], 2.0 ** exponents[0], self.sampling)
        if len(features) == 1:
            return pooled
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        level = torch.floor(
            self.canonical_level + torch.log2(torch.sqrt(area) / self.canonical_size) + self.level_epsilon
        )
        level = level.clamp(-exponents[0], -exponents[-1]) + exponents[0]
        for index in range(1, len(features)):
            other = roi_align(features[index], rois, [size, size], 2.0 ** exponents[index], self.sampling)
            pooled = torch.where((level == index)[:, None, None, None], other, pooled)
        return pooled


class FixedSizeClassifier(nn.Module):
    """COVID-CT-Mask-Net for exporters: slices (B, 1, H, W) in [0, 1] to logits (B, classes).

    Parameters
    ----------
    network : FasterRCNN
        `CovidCTMaskNet`; its modules are shared.
    """

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.trunk = FixedSizeTrunk(network)
        self.s = network.s
        self.regions = int(network.roi_heads.detections_per_img)
        self.score = float(network.roi_heads.score_thresh)
        self.nms = float(network.roi_heads.nms_thresh)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of slices."""
        rows: list[Tensor] = []
        for index in range(images.shape[0]):
            rows.append(self._rows(images[index]))  # noqa: PERF401 (TorchScript)
        logits: Tensor = self.s(torch.stack(rows))
        return logits

    def _rows(self, image: Tensor) -> Tensor:
        """Return the ranked rows (N, 5) of a slice; see `ranked_rows`."""
        _, proposals, kept, logits, regression, height, width = self.trunk(image)
        classes = int(logits.shape[-1])
        softmax = torch.softmax(logits, -1)
        boxes = self.trunk.box_coder.decode(regression, [proposals])
        boxes = clip_boxes_to_image(boxes.reshape(-1, classes, 4), (height, width))
        sides = boxes[:, :, 2:] - boxes[:, :, :2]
        fine = (sides[:, :, 0] * sides[:, :, 1] > 0) & (softmax > self.score) & kept[:, None]
        ranked = torch.stack(
            [
                _suppressed(boxes[:, label], softmax[:, label], fine[:, label], self.nms)
                for label in range(1, classes)
            ],
            dim=1,
        ).reshape(-1)
        best_scores, order = ranked.topk(min(self.regions, int(ranked.shape[0])))
        found = (best_scores > float("-inf")).sum()
        places = torch.arange(self.regions, device=image.device) * found // self.regions
        chosen = order[places]
        scores = softmax[:, 1:].reshape(-1, 1)[chosen]
        deltas = regression.reshape(-1, classes, 4)[:, 1:].reshape(-1, 4)[chosen]
        rows = torch.cat([scores, deltas], dim=1) * (found > 0)
        sound = (softmax.isfinite().all(dim=1) & regression.isfinite().all(dim=1)) | ~kept
        return torch.where(sound.all() & kept.any(), rows, torch.full_like(rows, torch.nan))


class FixedSizeDetector(nn.Module):
    """The lesion detector for exporters: one slice (1, 1, H, W) in [0, 1] to a list of four tensors.

    The list-output mode of ``detector_def``. ``boxes`` (N, 4) in pixels of the slice, ``labels`` (N,),
    ``scores`` (N,) and ``masks`` (N, 1, 28, 28) as probabilities, each spanning its box, best first. N is
    always the largest number of detections of a slice; places that hold none are all zeros.

    Parameters
    ----------
    network : MaskRCNN
        `LesionDetector`; its modules are shared.
    """

    def __init__(self, network: MaskRCNN) -> None:
        super().__init__()
        heads = network.roi_heads
        self.trunk = FixedSizeTrunk(network)
        self.mask_head = heads.mask_head
        self.mask_predictor = heads.mask_predictor
        self.mask_size = int(heads.mask_roi_pool.output_size[0])
        self.detections = int(heads.detections_per_img)
        self.score = float(heads.score_thresh)
        self.nms = float(heads.nms_thresh)
        self.maskness = bool(network.settings.maskness)
        # torchvision drops detections with a shorter side, in pixels.
        self.min_side = 1e-2

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return boxes, labels, scores and masks of the slice."""
        image = images[0]
        features, proposals, kept, logits, regression, height, width = self.trunk(image)
        classes = int(logits.shape[-1])
        softmax = torch.softmax(logits, -1)
        decoded = self.trunk.box_coder.decode(regression, [proposals])
        decoded = clip_boxes_to_image(decoded.reshape(-1, classes, 4), (height, width))
        fine = (
            ((decoded[:, :, 2:] - decoded[:, :, :2]) >= self.min_side).all(dim=2)
            & (softmax > self.score)
            & kept[:, None]
        )
        ranked = torch.stack(
            [
                _suppressed(decoded[:, label], softmax[:, label], fine[:, label], self.nms)
                for label in range(1, classes)
            ],
            dim=1,
        ).reshape(-1)
        best_scores, order = ranked.topk(min(self.detections, int(ranked.shape[0])))
        found = best_scores > float("-inf")
        boxes = decoded[:, 1:].reshape(-1, 4)[order]
        boxes = torch.where(found[:, None], boxes, torch.zeros_like(boxes))
        labels = order % (classes - 1) + 1
        pooled = self.trunk.pool(features, boxes, height, self.mask_size)
        masks = torch.sigmoid(self.mask_predictor(self.mask_head(pooled)))
        channel = labels[:, None, None, None].expand(-1, 1, masks.shape[2], masks.shape[3])
        masks = masks.gather(1, channel)
        if self.maskness:
            sure = best_scores * maskness(masks)
            found = found & (sure >= self.score)
            best_scores = torch.where(found, sure, torch.full_like(sure, float("-inf")))
            again = _best_first(best_scores)
            best_scores, found = best_scores[again], found[again]
            boxes, labels, masks = boxes[again], labels[again], masks[again]
            boxes = torch.where(found[:, None], boxes, torch.zeros_like(boxes))
        scale_x = float(image.shape[-1]) / width
        scale_y = float(image.shape[-2]) / height
        scale = torch.tensor([scale_x, scale_y, scale_x, scale_y], dtype=boxes.dtype, device=boxes.device)
        return [
            boxes * scale,
            labels * found,
            best_scores.clamp(min=0.0),
            masks * found[:, None, None, None],
        ]


def _suppressed(boxes: Tensor, scores: Tensor, candidates: Tensor, threshold: float) -> Tensor:
    """Return the scores (n,) with -inf where a box is no candidate or overlaps a better candidate.

    What is no candidate comes last in the order of suppression, so it takes nothing with it.
    """
    dropped = torch.full_like(scores, float("-inf"))
    scores = torch.where(candidates, scores, dropped)
    survivors = nms(boxes, scores, threshold)
    survived = torch.zeros_like(candidates).scatter(
        0, survivors, torch.ones_like(survivors, dtype=torch.bool)
    )
    return torch.where(survived, scores, dropped)


def _best_first(scores: Tensor) -> Tensor:
    """Return the order (n,) of scores from high to low, equal ones as they come: a stable sort.

    By counting, for ONNX knows no stable sort.
    """
    places = torch.arange(scores.shape[0], device=scores.device)
    better = scores[None] > scores[:, None]
    earlier = (scores[None] == scores[:, None]) & (places[None] < places[:, None])
    ranks = (better | earlier).sum(dim=1)
    return torch.zeros_like(places).scatter(0, ranks, places)


def exporting() -> bool:
    """Return whether a forward pass is being recorded (``torch.export``, ONNX, ``torch.jit.trace``)."""
    return torch.compiler.is_exporting() or is_tracing()  # type: ignore[no-untyped-call]
