"""Overlap of lesion pixels by class, over all slices and slice by slice."""

from __future__ import annotations

from collections.abc import Mapping

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
        self._both = dict.fromkeys(self.names, 0)
        self._either = dict.fromkeys(self.names, 0)
        self._slices: dict[int, list[float]] = {label: [] for label in self.names}

    def update(self, detection: Mapping[str, Tensor], labels: NDArray[np.integer]) -> None:
        """Add one slice: a detection, and its lesion labels (H, W) under the mask type."""
        found = outlined_labels(detection, labels.shape, self.confidence)
        for label in self.names:
            ours, theirs = found == label, labels == label
            both, either = int((ours & theirs).sum()), int(ours.sum()) + int(theirs.sum())
            self._both[label] += both
            self._either[label] += either
            if either:
                self._slices[label].append(2 * both / either)

    def compute(self) -> dict[str, dict[str, float]]:
        """Return ``dice`` and ``slice_dice`` by class name; NaN for classes neither there nor found."""
        return {
            "dice": {name: _ratio(2 * self._both[c], self._either[c]) for c, name in self.names.items()},
            "slice_dice": {
                name: _ratio(sum(self._slices[c]), len(self._slices[c])) for c, name in self.names.items()
            },
        }


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


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
