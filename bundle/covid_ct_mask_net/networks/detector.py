"""Mask R-CNN that finds and outlines ground-glass opacity and consolidation on a slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import MultiScaleRoIAlign

from covid_ct_mask_net.networks.backbone import FPN_CHANNELS, build_backbone
from covid_ct_mask_net.networks.fixed_size import FixedSizeDetector, exporting
from covid_ct_mask_net.networks.maskness import score_by_masks
from covid_ct_mask_net.networks.proposals import rank_proposals_by_logit
from covid_ct_mask_net.networks.regions import Regions, compute_regions, passes, scales_of
from covid_ct_mask_net.networks.settings import DetectorSettings
from covid_ct_mask_net.networks.slice_transform import SliceTransform

_BOX_RESOLUTION = 7
_MASK_RESOLUTION = 14
_SAMPLING_RATIO = 2
_FULL_MASK_LAYERS = (256, 256, 256, 256)
_LIGHT_MASK_LAYERS = (128,)


class LesionDetector(MaskRCNN):
    """Mask R-CNN of the paper (section 3.2) on torchvision's own modules.

    Parameters
    ----------
    settings : DetectorSettings
        Architecture, thresholds and sampling.

    Notes
    -----
    In training, ``forward(slices, targets)`` takes a sequence of slices (1, H, W) in [0, 1] and of targets
    (``boxes`` (n, 4), ``labels`` (n,), ``masks`` (n, H, W); n may be 0) and returns the five named losses of
    Eq. 1. In test mode it takes a tensor (B, 1, H, W) or a sequence of slices of any sizes and returns a list
    of dictionaries: ``boxes`` (n, 4) in pixels of the slice, ``labels`` (n,), ``scores`` (n,) and ``masks``
    (n, 1, H, W) as probabilities.

    Crops are resized as the slice that they were cut from, by ``transform.scale_of`` that slice: in training
    each target then holds ``scale`` (a float64 tensor of one number), in test mode ``scales`` are given.

    Exporters take no dictionaries: to them, and in test mode where ``use_list_output`` is set, it returns the
    list of tensors of `FixedSizeDetector` for one slice.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        levels = [str(level) for level in range(settings.levels)]
        classes = settings.mask_type.num_classes
        mask_layers = _LIGHT_MASK_LAYERS if settings.light else _FULL_MASK_LAYERS
        super().__init__(
            build_backbone(settings),
            rpn_anchor_generator=anchor_generator(settings),
            rpn_nms_thresh=settings.rpn_nms,
            rpn_fg_iou_thresh=settings.rpn_foreground_iou,
            rpn_bg_iou_thresh=settings.rpn_background_iou,
            rpn_batch_size_per_image=settings.rpn_batch,
            rpn_positive_fraction=settings.rpn_positive_fraction,
            rpn_pre_nms_top_n_train=settings.rpn_top_training,
            rpn_post_nms_top_n_train=settings.rpn_top_training,
            rpn_pre_nms_top_n_test=settings.rpn_top_testing,
            rpn_post_nms_top_n_test=settings.rpn_top_testing,
            box_roi_pool=box_pool(levels),
            box_head=box_head(settings),
            box_predictor=FastRCNNPredictor(settings.representation, classes),
            box_score_thresh=settings.roi_score,
            box_nms_thresh=settings.roi_nms,
            box_detections_per_img=settings.detections,
            box_fg_iou_thresh=settings.roi_foreground_iou,
            box_bg_iou_thresh=settings.roi_background_iou,
            box_batch_size_per_image=settings.roi_batch,
            box_positive_fraction=settings.roi_positive_fraction,
            mask_roi_pool=MultiScaleRoIAlign(levels, _MASK_RESOLUTION, _SAMPLING_RATIO),
            mask_head=MaskRCNNHeads(FPN_CHANNELS, mask_layers, dilation=1),
            mask_predictor=MaskRCNNPredictor(mask_layers[-1], mask_layers[-1], classes),
        )
        self.settings = settings
        self.use_list_output = False
        self.transform = SliceTransform(settings)
        rank_proposals_by_logit(self.rpn)

    def forward(
        self,
        images: Tensor | Sequence[Tensor],
        targets: list[dict[str, Tensor]] | None = None,
        scales: Sequence[float] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]] | list[Tensor]:
        """Return losses in training, detections in test mode (see the class)."""
        if self.training:
            # torchvision writes resized boxes into the targets; the caller's stay as they were.
            copies = None if targets is None else [dict(target) for target in targets]
            return cast("dict[str, Tensor]", super().forward(list(images), copies))
        if self.use_list_output or exporting():
            return cast("list[Tensor]", FixedSizeDetector(self)(images))
        detections: dict[int, dict[str, Tensor]] = {}
        for group in passes(self.transform, images, scales):
            regions = compute_regions(self, [images[index] for index in group], scales_of(group, scales))
            detections |= dict(zip(group, self.detect(regions), strict=True))
        return [detections[index] for index in sorted(detections)]

    def __prepare_scriptable__(self) -> nn.Module:
        """Return what ``torch.jit.script`` compiles."""
        return FixedSizeDetector(self)

    def detect(self, regions: Regions) -> list[dict[str, Tensor]]:
        """Return the detections of slices whose regions are known, masks pasted into the slices."""
        return cast(
            "list[dict[str, Tensor]]",
            self.transform.postprocess(
                self._outline(regions, self.settings.roi_score), regions.image_sizes, regions.original_sizes
            ),
        )

    def outline_in_slices(self, regions: Regions, min_score: float) -> list[dict[str, Tensor]]:
        """Return detections from a score on: boxes in pixels of the slices as given, masks (n, 1, 28, 28)."""
        found = self._outline(regions, min_score)
        for detection, size, original in zip(found, regions.image_sizes, regions.original_sizes, strict=True):
            detection["boxes"] = resize_boxes(detection["boxes"], list(size), list(original))
        return found

    def _outline(self, regions: Regions, min_score: float) -> list[dict[str, Tensor]]:
        """Return detections with 28 x 28 mask probabilities, boxes in pixels of the resized slice.

        Masks are computed only for what is returned: the mask branch costs as much as all the rest.
        """
        boxes, scores, labels = self.roi_heads.postprocess_detections(
            regions.class_logits, regions.box_regression, regions.proposals, regions.image_sizes
        )
        found = []
        for slice_boxes, slice_scores, slice_labels in zip(boxes, scores, labels, strict=True):
            keep = slice_scores >= min_score
            found.append(
                {"boxes": slice_boxes[keep], "scores": slice_scores[keep], "labels": slice_labels[keep]}
            )
        pooled = self.roi_heads.mask_roi_pool(
            regions.features, [f["boxes"] for f in found], regions.image_sizes
        )
        logits = self.roi_heads.mask_predictor(self.roi_heads.mask_head(pooled))
        masks = maskrcnn_inference(logits, [f["labels"] for f in found])
        for slice_found, slice_masks in zip(found, masks, strict=True):
            slice_found["masks"] = slice_masks
        return [score_by_masks(one, min_score) for one in found] if self.settings.maskness else found


def anchor_generator(settings: DetectorSettings) -> AnchorGenerator:
    """Return the anchors of the settings, the same sizes and ratios at each level."""
    return AnchorGenerator(
        sizes=(tuple(settings.anchor_sizes),) * settings.levels,
        aspect_ratios=(tuple(settings.anchor_ratios),) * settings.levels,
    )


def box_pool(levels: list[str]) -> MultiScaleRoIAlign:
    """Return the RoI pooling in front of the box head."""
    return MultiScaleRoIAlign(levels, _BOX_RESOLUTION, _SAMPLING_RATIO)


def box_head(settings: DetectorSettings) -> nn.Module:
    """Return the 128-wide box head (torchvision's has 1024)."""
    return TwoMLPHead(FPN_CHANNELS * _BOX_RESOLUTION**2, settings.representation)
