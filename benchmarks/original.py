"""The paper's classifier the way its code runs it: the baseline that the engines are compared with.

Written anew from the paper and torchvision's modules: one slice at a time, three equal channels, batch
normalisation as layers, every anchor decoded, RoIAlign and NMS of torchvision, and the 256 best regions,
whatever their score, filled up at random places. It is given the weights of our classifier, for comparison.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.ops import batched_nms, clip_boxes_to_image

from covid_ct_mask_net.networks.classifier import CovidCTMaskNet


class OriginalLoop(nn.Module):
    """Slices (B, 1, H, W) in [0, 1] to logits (B, 3), one slice after the other.

    Parameters
    ----------
    classifier : CovidCTMaskNet
        Gives the weights; its modules are torchvision's.
    """

    def __init__(self, classifier: CovidCTMaskNet) -> None:
        super().__init__()
        self.network: FasterRCNN = classifier
        self.s = classifier.s
        self.count = classifier.settings.regions
        self.nms = classifier.settings.roi_nms

    @torch.inference_mode()
    def forward(self, slices: Tensor) -> Tensor:
        """Return the logits of slices."""
        return torch.cat([self.s(self._rows(image.expand(3, -1, -1))[None]) for image in slices])

    def _rows(self, image: Tensor) -> Tensor:
        network = self.network
        images, _ = network.transform([image], None)
        features = network.backbone(images.tensors)
        proposals, _ = network.rpn(images, features, None)
        heads = network.roi_heads
        pooled = heads.box_roi_pool(features, proposals, images.image_sizes)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        scores = torch.softmax(logits, -1)
        boxes = clip_boxes_to_image(heads.box_coder.decode(deltas, proposals), images.image_sizes[0])
        # Background is dropped, each class is a candidate of its own.
        classes = torch.arange(scores.shape[1]).expand_as(scores)[:, 1:].reshape(-1)
        scores, boxes = scores[:, 1:].reshape(-1), boxes[:, 1:].reshape(-1, 4)
        encoded = deltas.reshape(len(logits), -1, 4)[:, 1:].reshape(-1, 4)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        found = torch.nonzero(area > 0)[:, 0]
        found = found[batched_nms(boxes[found], scores[found], classes[found], self.nms)][: self.count]
        rows = torch.cat([scores[found, None], encoded[found]], dim=1)
        if len(rows) < self.count:
            cuts = torch.randperm(self.count - 1)[: len(rows) - 1].sort().values + 1
            edges = torch.cat([torch.tensor([0]), cuts, torch.tensor([self.count])])
            rows = rows.repeat_interleave(edges.diff(), dim=0)
        return rows
