"""Accuracy of slice classes as a metric of MONAI's evaluator, over all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.utils.enums import CommonKeys
from torch import Tensor

from covid_ct_mask_net.training.metrics.classification import confusion_matrix, figures


class SliceClassification(Metric):
    """Accuracy under its own name; class-weighted F1 and sensitivities (Eq. 3 to 6) beside it.

    Parameters
    ----------
    class_names : sequence of str
    output_transform : callable, optional
        From the engine's output to (logits (B, classes), class ids (B,)); MONAI's keys if not given.
    """

    def __init__(
        self, class_names: Sequence[str], output_transform: Callable[[Any], Any] | None = None
    ) -> None:
        self.class_names = tuple(class_names)
        self._beside: dict[str, float] = {}
        super().__init__(output_transform or _logits_and_classes)

    def reset(self) -> None:
        """Forget all slices."""
        classes = len(self.class_names)
        self._confusion = np.zeros((classes, classes), dtype=np.int64)

    def update(self, output: tuple[Tensor, Tensor]) -> None:
        """Add the slices of a batch."""
        logits, classes = output
        predicted = logits.argmax(dim=1).cpu().numpy()
        self._confusion += confusion_matrix(classes.cpu().numpy(), predicted, len(self.class_names))

    def compute(self) -> float:
        """Return the accuracy over the slices of all processes."""
        found = figures(sum(_gathered(self._confusion)))
        self._beside = {"weighted_f1": found.weighted_f1} | {
            f"sensitivity_{name.lower().replace(' ', '_').replace('-', '_')}": float(value)
            for name, value in zip(self.class_names, found.sensitivity, strict=True)
        }
        return found.accuracy

    def completed(self, engine: Engine, name: str) -> None:
        """Write the accuracy under the name of the metric, the other figures under their own."""
        super().completed(engine, name)
        engine.state.metrics.update(self._beside)


def _gathered(own: np.ndarray) -> list[Any]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return parts


def _logits_and_classes(output: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    return output[CommonKeys.PRED], output[CommonKeys.LABEL]
