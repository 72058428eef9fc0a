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

LESION_CLASSES = 2
# Prediction at a quarter of the image's resolution, from features at a sixteenth.
_STRIDE, _FINER = 16, 4
_POSITIVE_WEIGHT = 3.0


class DenseHead(nn.Module):
    """Logits of the lesion classes (B, 2, H / 4, W / 4) from features (B, 256, H / 16, W / 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = nn.Conv2d(FPN_CHANNELS, LESION_CLASSES * _FINER**2, kernel_size=1)
        # Lesions are rare: begin near their share.
        nn.init.constant_(self.predict.bias, -3.0)  # type: ignore[arg-type]
        nn.init.normal_(self.predict.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        return functional.pixel_shuffle(self.predict(features), _FINER)


def dense_loss(logits: Tensor, targets: Sequence[dict[str, Tensor]]) -> Tensor:
    """Return cross entropy plus one minus Dice of logits (B, 2, h, w) against the lesions of the slices.

    Slices lie at the upper left of the batch and are not resized (``scale`` 1 in the targets); a cell's truth
    is the share of its pixels that a class covers.
    """
    step = _STRIDE // _FINER
    truth = torch.zeros_like(logits)
    for index, target in enumerate(targets):
        for lesion_class in range(1, LESION_CLASSES + 1):
            masks = target["masks"][target["labels"] == lesion_class]
            if len(masks):
                covered = masks.amax(dim=0).float()
                pad = (0, -covered.shape[1] % step, 0, -covered.shape[0] % step)
                cells = functional.avg_pool2d(functional.pad(covered, pad)[None, None], step)[0, 0]
                truth[index, lesion_class - 1, : cells.shape[0], : cells.shape[1]] = cells
    weight = torch.full((1, LESION_CLASSES, 1, 1), _POSITIVE_WEIGHT)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=weight)
    shown = torch.sigmoid(logits)
    both, either = (shown * truth).sum(dim=(0, 2, 3)), (shown + truth).sum(dim=(0, 2, 3))
    return entropy + (1 - (2 * both + 1) / (either + 1)).mean()
