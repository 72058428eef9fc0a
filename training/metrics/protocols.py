"""Thresholds under which the original's average precision is computed: those of the paper, README or code.

They differ. Table 6 stands beside the paper's Table 2; the README lists other figures, of the released
models, and the command line that gave them; the defaults of the code have no published figures.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covid_ct_mask_net.errors import UsageError

# The original thresholds the logits of masks at 0.5, not their probabilities.
_LOGIT_OF_HALF = 1 / (1 + math.exp(-0.5))


@dataclass(frozen=True)
class Thresholds:
    """What decides which detections count, and which of their pixels.

    Attributes
    ----------
    roi_nms
        Overlap (IoU of boxes) from which the less sure of two detections of a class goes, in [0, 1].
    confidence
        Score from which detections count for the original's AP, in [0, 1].
    detections
        Most detections of a slice, best first.
    mask_threshold
        Probability from which pixels of a mask count for the original's AP, in [0, 1].
    """

    roi_nms: float
    confidence: float
    detections: int
    mask_threshold: float


# Table 2 of the paper (masks where logits are above 0); the README's command line; the code's defaults.
PROTOCOLS: Mapping[str, Thresholds] = {
    "paper": Thresholds(roi_nms=0.25, confidence=0.05, detections=100, mask_threshold=0.5),
    "readme": Thresholds(roi_nms=0.75, confidence=0.75, detections=128, mask_threshold=_LOGIT_OF_HALF),
    "code": Thresholds(roi_nms=0.5, confidence=0.05, detections=128, mask_threshold=_LOGIT_OF_HALF),
}
# Figures are compared with Table 6, which is the paper's. Checkpoints have its RoI NMS and number of
# detections, unless set otherwise, so that COCO's AP is that of the detector as it was trained.
DEFAULT = "paper"


@dataclass(frozen=True)
class Protocol:
    """Thresholds by the name of their source, and what was set otherwise.

    Attributes
    ----------
    name
        ``paper``, ``readme`` or ``code``.
    thresholds
        Those that hold.
    changed
        Names of thresholds that are not the protocol's.
    """

    name: str
    thresholds: Thresholds
    changed: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``metrics.json`` holds them."""
        return {"name": self.name, **dataclasses.asdict(self.thresholds), "changed": list(self.changed)}


def protocol(
    name: str = DEFAULT,
    *,
    roi_nms: float | None = None,
    confidence: float | None = None,
    detections: int | None = None,
    mask_threshold: float | None = None,
) -> Protocol:
    """Return the thresholds of a protocol; one that is given wins.

    Parameters
    ----------
    name : str
        ``paper``, ``readme`` or ``code``.
    roi_nms, confidence, detections, mask_threshold : optional
        As in `Thresholds`; the protocol's if None.

    Raises
    ------
    UsageError
        If there is no such protocol, or a threshold is out of its range.
    """
    if name not in PROTOCOLS:
        raise UsageError("PROTOCOL", f"The protocol is {name!r}, but must be {', '.join(PROTOCOLS)}.")
    own = PROTOCOLS[name]
    given: dict[str, Any] = {
        "roi_nms": roi_nms, "confidence": confidence, "detections": detections,
        "mask_threshold": mask_threshold,
    }  # fmt: skip
    differing = {
        key: value for key, value in given.items() if value is not None and value != getattr(own, key)
    }
    for key, value in differing.items():
        if key == "detections":
            _check_count(value)
        else:
            check_share(key, value)
    return Protocol(name, dataclasses.replace(own, **differing), tuple(differing))


def check_share(name: str, value: float) -> float:
    """Return a threshold.

    Raises
    ------
    UsageError
        If it is no number in [0, 1].
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UsageError("THRESHOLD", f"{name} is {value!r}, but must be a number from 0 to 1.")
    return value


def _check_count(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError("THRESHOLD", f"detections is {value!r}, but must be a whole number of 1 or more.")
