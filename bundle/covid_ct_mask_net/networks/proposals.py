"""Region proposals ranked as the paper's code ranks them: by logits, with those of zero area kept."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes


class LogitRankedProposals(RegionProposalNetwork):
    """torchvision's region proposal network with the original's selection of proposals.

    Two rules differ from torchvision's. It ranks by the sigmoid of objectness, which is 1.0 in float32 from a
    logit of 17 on, so that the surest proposals tie and their order is arbitrary; here logits themselves are
    ranked. And its ``min_size`` is 1e-3, which drops boxes without area; here it is 0: anchors of size 2 and
    ratio 0.1 or 0.25 round to zero height, and the original lets through what comes from them.
    """

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the boxes (n, 4) and logits (n,) of each slice, best first.

        Parameters
        ----------
        proposals : Tensor
            (B, anchors of all levels, 4) decoded boxes.
        objectness : Tensor
            (B * anchors, 1) logits.
        image_shapes : list of (int, int)
            Heights and widths that boxes are clipped to.
        num_anchors_per_level : list of int
        """
        count = proposals.shape[0]
        objectness = objectness.detach().reshape(count, -1)
        levels = torch.cat(
            [
                torch.full((anchors,), level, dtype=torch.int64, device=proposals.device)
                for level, anchors in enumerate(num_anchors_per_level)
            ]
        )
        best = self._get_top_n_idx(objectness, num_anchors_per_level)
        boxes: list[Tensor] = []
        logits: list[Tensor] = []
        for index, shape in enumerate(image_shapes):
            chosen = best[index]
            clipped = clip_boxes_to_image(proposals[index][chosen], shape)
            large = remove_small_boxes(clipped, self.min_size)
            clipped, scores = clipped[large], objectness[index][chosen][large]
            kept = batched_nms(clipped, scores, levels[chosen][large], self.nms_thresh)
            kept = kept[: self.post_nms_top_n()]
            boxes.append(clipped[kept])
            logits.append(scores[kept])
        return boxes, logits


def rank_proposals_by_logit(rpn: RegionProposalNetwork) -> None:
    """Give a network that torchvision built the selection of `LogitRankedProposals`; weights stay."""
    # The detection models of torchvision build their RPN themselves and take none.
    rpn.__class__ = LogitRankedProposals
    rpn.min_size = 0.0
