"""A head that exists in training only: lesion classes pixel by pixel from the features of the pyramid.

From random weights the losses of Mask R-CNN say little at first, for they need proposals that hit lesions. A
dense loss on the shared features teaches the trunk at every pixel from the first step (as the semantic branch
of Chen et al. 2019, Hybrid Task Cascade, CVPR, does); the head is thrown away afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from covid_ct_mask_net.networks.backbone import FPN_CHANNELS
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import STAGE_COUNT, DetectorSettings
from covid_ct_mask_net.training.box_losses import BoxLoss
from covid_ct_mask_net.training.modes import BatchNorm
from covid_ct_mask_net.training.segmentation import DetectorTraining, Shape

LESION_CLASSES = 2
# Prediction at a quarter of the image's resolution, which is that of the finest level of ResNet50's pyramid.
_STEP = 4
_POSITIVE_WEIGHT = 3.0


class DenseHead(nn.Module):
    """Logits of the lesion classes (B, 2, H / 4, W / 4) from features (B, 256, H / stride, W / stride)."""

    def __init__(self, stride: int = 16) -> None:
        super().__init__()
        self.finer = stride // _STEP
        self.predict = nn.Conv2d(FPN_CHANNELS, LESION_CLASSES * self.finer**2, kernel_size=1)
        # Lesions are rare: begin near their share.
        nn.init.constant_(self.predict.bias, -3.0)  # type: ignore[arg-type]
        nn.init.normal_(self.predict.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        return functional.pixel_shuffle(self.predict(features), self.finer)


def finest_stride(settings: DetectorSettings) -> int:
    """Return how many pixels apart the cells of the finest level of features are."""
    return 2 ** (STAGE_COUNT - settings.truncation + 1) if settings.light else _STEP


def dense_loss(logits: Tensor, targets: Sequence[dict[str, Tensor]]) -> Tensor:
    """Return cross entropy plus one minus Dice of logits (B, 2, h, w) against the lesions of the slices.

    Slices lie at the upper left of the batch and are not resized (``scale`` 1 in the targets); a cell's truth
    is the share of its pixels that a class covers.
    """
    truth = torch.zeros_like(logits)
    for index, target in enumerate(targets):
        for lesion_class in range(1, LESION_CLASSES + 1):
            masks = target["masks"][target["labels"] == lesion_class]
            if len(masks):
                covered = masks.amax(dim=0).float()
                pad = (0, -covered.shape[1] % _STEP, 0, -covered.shape[0] % _STEP)
                cells = functional.avg_pool2d(functional.pad(covered, pad)[None, None], _STEP)[0, 0]
                truth[index, lesion_class - 1, : cells.shape[0], : cells.shape[1]] = cells
    weight = logits.new_full((1, LESION_CLASSES, 1, 1), _POSITIVE_WEIGHT)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=weight)
    shown = torch.sigmoid(logits)
    both, either = (shown * truth).sum(dim=(0, 2, 3)), (shown + truth).sum(dim=(0, 2, 3))
    return entropy + (1 - (2 * both + 1) / (either + 1)).mean()


class DenseDetectorTraining(DetectorTraining):
    """A detector as it is trained, with the dense head beside its own: ``loss_dense`` joins the five losses.

    Parameters
    ----------
    detector : LesionDetector
        Where it has several levels of features, the head reads the finest.
    batch_norm, joint, box_loss
        As in `DetectorTraining`.
    """

    def __init__(
        self,
        detector: LesionDetector,
        batch_norm: BatchNorm | str,
        joint: bool,
        box_loss: BoxLoss | str = BoxLoss.ORIGINAL,
    ) -> None:
        super().__init__(detector, batch_norm, joint, box_loss)
        self.dense = DenseHead(finest_stride(detector.settings))
        self._features: list[Tensor] = []
        detector.backbone.register_forward_hook(self._keep)
        # Convolutions on a CPU are a fifth faster so.
        self.to(memory_format=torch.channels_last)

    def _keep(self, _module: nn.Module, _inputs: object, output: dict[str, Tensor]) -> None:
        if self.training:
            self._features = [output["0"]]

    def _losses(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]],
        seed: int,
        shapes: Sequence[Shape],
    ) -> dict[str, Tensor]:
        losses = super()._losses(images, targets, seed, shapes)
        return {**losses, "loss_dense": dense_loss(self.dense(self._features.pop()), targets)}
