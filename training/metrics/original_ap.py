"""The average precision that the paper's code computes, under its own name: it is *not* COCO AP.

Per slice, all classes together, averaged over slices (paper, Table 6 and README). Differences from COCO, each
of which raises the figure: precision and recall are of one slice; a lesion takes the best overlapping
detection whatever its score, and one detection may serve several lesions; a slice with nothing to find and
nothing found counts 1. Shown beside COCO AP so that the paper's figures can be compared at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
# The value that the figures of the original's README were made with.
CONFIDENCE = 0.75
_MASK_THRESHOLD = 0.5


class OriginalImageAP:
    """Collect per-slice average precision of masks.

    Parameters
    ----------
    confidence : float
        Detections below this score are left out.
    """

    def __init__(self, confidence: float = CONFIDENCE) -> None:
        self.confidence = confidence
        self._values: list[list[float]] = []

    def update(self, detection: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        """Add one slice; arguments as for `coco.CocoEvaluation.update`."""
        kept = detection["scores"] >= self.confidence
        order = detection["scores"][kept].argsort(descending=True, stable=True)
        truth = target["masks"].cpu().numpy() > 0
        masks = detection["masks"][kept][order].detach().cpu().numpy().reshape(-1, *truth.shape[-2:])
        overlaps = mask_overlaps(masks >= _MASK_THRESHOLD, truth)
        same = detection["labels"][kept][order].cpu().numpy()[:, None] == target["labels"].cpu().numpy()[None]
        self._values.append([image_average_precision(overlaps, same, one) for one in IOU_THRESHOLDS])

    def by_slice(self) -> NDArray[np.float64]:
        """Return the values of each slice at each threshold, (slices, 10)."""
        return np.array(self._values, dtype=np.float64).reshape(-1, len(IOU_THRESHOLDS))

    def compute(self) -> dict[str, float]:
        """Return ``ap`` (mean over thresholds), ``ap50`` and ``ap75``; NaN without slices."""
        if not self._values:
            return {"ap": float("nan"), "ap50": float("nan"), "ap75": float("nan")}
        means = np.mean(self._values, axis=0)
        return {"ap": float(means.mean()), "ap50": float(means[0]), "ap75": float(means[5])}


def image_average_precision(
    overlaps: NDArray[np.float64], same_class: NDArray[np.bool_], threshold: float
) -> float:
    """Return the average precision of one slice at one IoU threshold.

    Parameters
    ----------
    overlaps : (detections, lesions)
        IoU, detections by falling score.
    same_class : (detections, lesions)
    threshold : float
        IoU has to be above it.
    """
    detections, lesions = overlaps.shape
    if not lesions:
        return 1.0 if not detections else 0.0
    if not detections:
        return 0.0
    hit = np.zeros(detections, dtype=bool)
    candidates = np.where(same_class & (overlaps > threshold), overlaps, -1.0)
    for lesion in range(lesions):
        best = int(candidates[:, lesion].argmax())
        if candidates[best, lesion] > 0:
            hit[best] = True
    found = hit.cumsum()
    precision = found / np.arange(1, detections + 1)
    # Precision at a recall is the highest at this recall or beyond (VOC).
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], found / lesions])
    return float((np.diff(recall) * envelope).sum())


def mask_overlaps(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the IoU of every pair of masks, (n, H, W) and (m, H, W) to (n, m); 0 where both are empty."""
    pixels = int(np.prod(first.shape[1:]))
    ours = first.reshape(len(first), pixels).astype(np.float64)
    theirs = second.reshape(len(second), pixels).astype(np.float64)
    both = ours @ theirs.T
    either = ours.sum(axis=1)[:, None] + theirs.sum(axis=1)[None] - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)
