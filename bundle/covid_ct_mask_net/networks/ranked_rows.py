"""The N x 5 rows that S reads: score and encoded box of the highest ranking regions of a slice."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.ops import batched_nms, clip_boxes_to_image

from covid_ct_mask_net.networks.regions import Regions

ROW_WIDTH = 5


def ranked_rows(network: FasterRCNN, regions: Regions, count: int) -> Tensor:
    """Return the ranked rows of each slice, shape (B, count, 5).

    A row is (score, tx, ty, tw, th): the softmax score of a lesion class and the box deltas of that class as
    the box head encodes them, neither decoded nor clipped (paper, section 3.3). Rows are ranked by score.
    Boxes are decoded only to drop those of no area and to suppress the overlapping ones of a class.

    Parameters
    ----------
    network : FasterRCNN
        The network whose box coder and thresholds apply.
    regions : Regions
        Box head outputs of the slices.
    count : int
        N, how many rows a slice gets; see `fill_rows` for slices with fewer regions.

    Notes
    -----
    Where the network gives no numbers, neither do the rows: filters and NMS would drop what is not finite
    and leave an answer that looks sound.
    """
    heads = network.roi_heads
    proposals_per_slice = [len(boxes) for boxes in regions.proposals]
    scores = torch.split(torch.softmax(regions.class_logits, -1), proposals_per_slice)
    boxes = heads.box_coder.decode(regions.box_regression, regions.proposals).split(proposals_per_slice)
    deltas = torch.split(regions.box_regression, proposals_per_slice)
    rows = []
    for slice_scores, slice_boxes, slice_deltas, size in zip(
        scores, boxes, deltas, regions.image_sizes, strict=True
    ):
        if not (len(slice_scores) and slice_scores.isfinite().all() and slice_deltas.isfinite().all()):
            rows.append(slice_scores.new_full((count, ROW_WIDTH), torch.nan))
            continue
        kept = _rank(slice_scores, slice_boxes, size, heads.score_thresh, heads.nms_thresh, count)
        lesion_scores = slice_scores[:, 1:].reshape(-1, 1)
        lesion_deltas = slice_deltas.reshape(len(slice_scores), -1, 4)[:, 1:].reshape(-1, 4)
        rows.append(fill_rows(torch.cat([lesion_scores[kept], lesion_deltas[kept]], dim=1), count))
    return torch.stack(rows)


@torch.no_grad()
def _rank(
    scores: Tensor, boxes: Tensor, size: tuple[int, int], min_score: float, nms: float, count: int
) -> Tensor:
    """Return indices into the (region, lesion class) pairs, best first; ties keep their order."""
    classes = torch.arange(1, scores.shape[-1], device=scores.device).expand(len(scores), -1).reshape(-1)
    scores = scores[:, 1:].reshape(-1)
    boxes = clip_boxes_to_image(boxes[:, 1:].reshape(-1, 4), size)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    candidates = torch.nonzero((area > 0) & (scores > min_score))[:, 0]
    kept = candidates[batched_nms(boxes[candidates], scores[candidates], classes[candidates], nms)]
    kept = kept.sort().values
    order = scores[kept].argsort(descending=True, stable=True)
    return kept[order[:count]]


def fill_rows(rows: Tensor, count: int) -> Tensor:
    """Stretch m ranked rows over exactly ``count``, keeping their order: row r is row floor(r m / count).

    The paper's code repeats entries at random positions, which makes its answer random; here it depends on
    the slice alone. A slice without any region gets rows of zeros.
    """
    found = len(rows)
    if found == 0:
        return rows.new_zeros(count, ROW_WIDTH)
    if found == count:
        return rows
    return rows[torch.arange(count, device=rows.device) * found // count]
