"""The average precision that the paper's code computes, under its own name: it is *not* COCO AP.

Per slice, all classes together, averaged over slices (paper, Table 6 and README). Differences from COCO:
precision and recall are of one slice; a lesion takes the best overlapping detection whatever its score; one
detection may serve several lesions, but is one hit; a slice with nothing to find counts 1 if nothing was
found, else 0. The figure may be higher or lower than COCO's: empty slices with nothing found raise it, but a
detection that serves two lesions leaves one of them missed (overlaps [[0.8, 0.7], [0, 0.6]] give 0.5, and 1
where each lesion has a detection of its own), and a lesion that takes the less sure of two detections leaves
the surer one false. Shown beside COCO AP so that the paper's figures can be compared at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.metrics.coco import detector_class_names
from covid_ct_mask_net.training.metrics.protocols import DEFAULT, PROTOCOLS, Thresholds

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


class OriginalImageAP:
    """Collect per-slice average precision of masks.

    Parameters
    ----------
    thresholds : Thresholds
        Detections below its confidence are left out; pixels count from its mask threshold on.
    mask_type : MaskType
        Names the classes, each of which has a figure of its own, too.
    """

    def __init__(
        self, thresholds: Thresholds = PROTOCOLS[DEFAULT], mask_type: MaskType = MaskType.BOTH
    ) -> None:
        self.thresholds = thresholds
        self.names = detector_class_names(mask_type)
        self._values: list[list[list[float]]] = []

    def update(self, detection: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        """Add one slice; arguments as for `coco.CocoEvaluation.update`."""
        kept = detection["scores"] >= self.thresholds.confidence
        order = detection["scores"][kept].argsort(descending=True, stable=True)
        truth = target["masks"].cpu().numpy() > 0
        masks = detection["masks"][kept][order].detach().cpu().numpy().reshape(-1, *truth.shape[-2:])
        overlaps = mask_overlaps(masks >= self.thresholds.mask_threshold, truth)
        found, lesions = detection["labels"][kept][order].cpu().numpy(), target["labels"].cpu().numpy()
        same = found[:, None] == lesions[None]
        parts = [(overlaps, same)]
        for label in self.names:
            of_class = np.ix_(found == label, lesions == label)
            parts.append((overlaps[of_class], same[of_class]))
        self._values.append(
            [[image_average_precision(*part, one) for one in IOU_THRESHOLDS] for part in parts]
        )

    def by_slice(self) -> NDArray[np.float64]:
        """Return the values of slices, (slices, 1 + classes, 10): all classes together, then each alone."""
        shape = (-1, 1 + len(self.names), len(IOU_THRESHOLDS))
        return np.array(self._values, dtype=np.float64).reshape(shape)

    def compute(self) -> dict[str, Any]:
        """Return what `figures_of` does for all slices."""
        return self.figures_of(self.by_slice())

    def figures_of(self, values: NDArray[np.float64]) -> dict[str, Any]:
        """Return the figures of slices (`by_slice`); NaN without any.

        Returns
        -------
        dict
            ``ap`` (mean over IoU thresholds), ``ap50`` and ``ap75``; ``by_iou``, AP at each IoU threshold,
            by its text ("0.50"); ``by_class`` and ``by_class50``, the mean and AP at 0.50 by class name,
            where only detections and lesions of the class are looked at and a slice without either counts 1.
        """
        means = values.mean(axis=0) if len(values) else np.full(values.shape[1:], np.nan)
        together, classes = means[0], dict(zip(self.names.values(), means[1:], strict=True))
        return {
            "ap": float(together.mean()), "ap50": float(together[0]), "ap75": float(together[5]),
            "by_iou": {f"{iou:.2f}": float(one) for iou, one in zip(IOU_THRESHOLDS, together, strict=True)},
            "by_class": {name: float(one.mean()) for name, one in classes.items()},
            "by_class50": {name: float(one[0]) for name, one in classes.items()},
        }  # fmt: skip


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
