"""Box losses of Eq. 1: those of the original, or those of the installed torchvision.

The original is a fork of an early torchvision: the region proposal network learns boxes from L1, the box head
from smooth L1 with beta 1. Today's torchvision has smooth L1 with beta 1/9 in both. What is summed, and what
the sum is divided by, is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_loss

from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.proposals import LogitRankedProposals
from covid_ct_mask_net.training.modes import choice


class BoxLoss(StrEnum):
    """Whose box losses a detector learns from."""

    ORIGINAL = "original"
    TORCHVISION = "torchvision"


class OriginalProposals(LogitRankedProposals):
    """The region proposal network with the original's box loss: L1."""

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return the objectness loss and the box loss of sampled anchors.

        Parameters
        ----------
        objectness : Tensor
            (anchors of all slices, 1) logits.
        pred_bbox_deltas : Tensor
            (anchors, 4) encoded boxes.
        labels : list of Tensor
            One (anchors,) a slice: 1 lesion, 0 background, -1 neither.
        regression_targets : list of Tensor
            One (anchors, 4) a slice: the encoded boxes of the lesions.
        """
        positive, negative = (torch.where(torch.cat(masks))[0] for masks in self.fg_bg_sampler(labels))
        sampled = torch.cat([positive, negative])
        wanted = torch.cat(regression_targets)[positive]
        box_loss = functional.l1_loss(pred_bbox_deltas[positive], wanted, reduction="sum") / sampled.numel()
        objectness_loss = functional.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels)[sampled]
        )
        return objectness_loss, box_loss


class OriginalRoIHeads(RoIHeads):
    """Box and mask heads with the original's box loss: smooth L1 with beta 1. Test mode is torchvision's."""

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return no detections and three losses in training, as torchvision does."""
        if not self.training:
            found: tuple[list[dict[str, Tensor]], dict[str, Tensor]]
            found = super().forward(features, proposals, image_shapes, targets)
            return found
        proposals, matched, labels, wanted = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        class_logits, box_regression = self.box_predictor(self.box_head(pooled))
        class_loss, _ = fastrcnn_loss(class_logits, box_regression, labels, wanted)
        lesions = [torch.where(one > 0)[0] for one in labels]
        boxes = [one[kept] for one, kept in zip(proposals, lesions, strict=True)]
        pooled = self.mask_roi_pool(features, boxes, image_shapes)
        mask_loss = maskrcnn_loss(
            self.mask_predictor(self.mask_head(pooled)),
            boxes,
            [one["masks"] for one in targets or ()],
            [one["labels"] for one in targets or ()],
            [one[kept] for one, kept in zip(matched, lesions, strict=True)],
        )
        return [], {
            "loss_classifier": class_loss,
            "loss_box_reg": head_box_loss(box_regression, labels, wanted),
            "loss_mask": mask_loss,
        }


def head_box_loss(box_regression: Tensor, labels: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the original's box loss of the box head: summed over lesions, divided by all sampled regions.

    Parameters
    ----------
    box_regression : Tensor
        (regions of all slices, classes * 4) encoded boxes of each class.
    labels : sequence of Tensor
        One (regions,) a slice: the lesion class, 0 background.
    wanted : sequence of Tensor
        One (regions, 4) a slice: the encoded boxes of the lesions.
    """
    classes = torch.cat(list(labels))
    lesions = torch.where(classes > 0)[0]
    ours = box_regression.reshape(len(classes), -1, 4)[lesions, classes[lesions]]
    loss = functional.smooth_l1_loss(ours, torch.cat(list(wanted))[lesions], beta=1.0, reduction="sum")
    return loss / classes.numel()


def use_box_loss(detector: LesionDetector, box_loss: BoxLoss | str) -> None:
    """Let a detector learn from one kind of box losses; its weights, samplers and detections stay.

    Raises
    ------
    UsageError
        If there is no such kind.
    """
    original = choice(BoxLoss, box_loss, "box_loss") is BoxLoss.ORIGINAL
    # As in `networks.proposals`: torchvision's models build both parts themselves and take none.
    detector.rpn.__class__ = OriginalProposals if original else LogitRankedProposals
    detector.roi_heads.__class__ = OriginalRoIHeads if original else RoIHeads
