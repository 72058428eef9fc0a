"""Exact non-maximum suppression of many groups of boxes at once, by tensor operations alone."""

from __future__ import annotations

import torch
from torch import Tensor

# Pairs of boxes whose overlaps are held at a time: 256 MiB of float32, of which there are three.
_PAIRS = 1 << 26


def greedy_nms(boxes: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Return which boxes greedy suppression keeps in each group; what torchvision's ``nms`` keeps.

    A box is dropped where a better one that is kept overlaps it too much. From all valid boxes on, those that
    no kept one drops are taken again until nothing changes: box i is right after i rounds at the latest, and
    some twelve are usual. Each round is one product of matrices for all groups.

    Parameters
    ----------
    boxes : Tensor
        (G, n, 4), best first in each group.
    valid : Tensor
        (G, n) bool; the others are dropped and drop nothing.
    threshold : float
        Intersection over union above which the worse box of two is dropped.

    Returns
    -------
    Tensor
        (G, n) bool.
    """
    groups = max(1, _PAIRS // max(1, boxes.shape[1] ** 2))
    return torch.cat(
        [
            _suppressed(some, usable, threshold)
            for some, usable in zip(torch.split(boxes, groups), torch.split(valid, groups), strict=True)
        ]
    )


def _suppressed(boxes: Tensor, valid: Tensor, threshold: float) -> Tensor:
    # [g, i, j]: j is worse than i and overlaps it too much.
    drops = (_overlaps(boxes) > threshold).triu(1).float()
    keep = valid.clone()
    while True:
        dropped = torch.bmm(keep.float()[:, None], drops)[:, 0] > 0
        following = valid & ~dropped
        if torch.equal(following, keep):
            return keep
        keep = following


def _overlaps(boxes: Tensor) -> Tensor:
    """Return intersections over unions (G, n, n); NaN, which is above nothing, where neither has an area."""
    # torchvision's box_iou takes groups in its latest versions only.
    left, top, right, bottom = boxes.unbind(-1)
    width = _shared(left, right)
    height = _shared(top, bottom)
    both = width * height
    area = (right - left) * (bottom - top)
    return both / (area[:, :, None] + area[:, None] - both)


def _shared(low: Tensor, high: Tensor) -> Tensor:
    """Return the lengths (G, n, n) that intervals (G, n) have in common."""
    end = torch.minimum(high[:, :, None], high[:, None])
    return (end - torch.maximum(low[:, :, None], low[:, None])).clamp_(min=0)
