"""Overlap of lesion pixels by class, over all slices and slice by slice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.metrics.coco import MASK_THRESHOLD, detector_class_names


class LesionDice:
    """Dice coefficient of lesion pixels.

    Parameters
    ----------
    mask_type : MaskType
        Names the classes.
    confidence : float
        Detections below this score outline nothing.

    Notes
    -----
    ``dice`` is that of all pixels of all slices together, which large lesions dominate; ``slice_dice`` is the
    mean over slices where the class occurs or was found.
    """

    def __init__(self, mask_type: MaskType, confidence: float = 0.5) -> None:
        self.names = detector_class_names(mask_type)
        self.confidence = confidence
        self._pixels: list[list[tuple[int, int]]] = []

    def update(self, detection: Mapping[str, Tensor], labels: NDArray[np.integer]) -> None:
        """Add one slice: a detection, and its lesion labels (H, W) under the mask type."""
        found = outlined_labels(detection, labels.shape, self.confidence)
        by_class = [(found == label, labels == label) for label in self.names]
        self._pixels.append(
            [(int((ours & theirs).sum()), int(ours.sum()) + int(theirs.sum())) for ours, theirs in by_class]
        )

    def by_slice(self) -> NDArray[np.int64]:
        """Return pixels in both, and in either counted twice where in both, (slices, classes, 2)."""
        return np.array(self._pixels, dtype=np.int64).reshape(-1, len(self.names), 2)

    def compute(self) -> dict[str, dict[str, float]]:
        """Return what `figures_of` does for all slices."""
        return self.figures_of(self.by_slice())

    def figures_of(self, pixels: NDArray[np.int64]) -> dict[str, dict[str, float]]:
        """Return ``dice`` and ``slice_dice`` of slices (`by_slice`) by class name.

        NaN for classes neither there nor found.
        """
        both, either = pixels[..., 0], pixels[..., 1]
        there = either > 0
        slice_dice = np.divide(2 * both, either, out=np.zeros(both.shape), where=there)
        return {
            "dice": self._named(2 * both.sum(axis=0), either.sum(axis=0)),
            "slice_dice": self._named(slice_dice.sum(axis=0), there.sum(axis=0)),
        }

    def _named(self, numerators: NDArray[Any], denominators: NDArray[Any]) -> dict[str, float]:
        rows = zip(self.names.values(), numerators, denominators, strict=True)
        return {name: float(ours / whole) if whole else float("nan") for name, ours, whole in rows}


def outlined_labels(
    detection: Mapping[str, Tensor], shape: tuple[int, ...], confidence: float
) -> NDArray[np.uint8]:
    """Paint detections into one label image (H, W); where they overlap, the surest one counts."""
    painted = np.zeros(shape, dtype=np.uint8)
    scores = detection["scores"]
    # From the least sure to the surest, so that the surest is on top.
    for index in scores.argsort(stable=True).tolist():
        if float(scores[index]) >= confidence:
            mask = detection["masks"][index].detach().cpu().numpy().reshape(shape)
            painted[mask >= MASK_THRESHOLD] = int(detection["labels"][index])
    return painted
