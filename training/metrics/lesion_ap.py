"""COCO mask AP as a metric of MONAI's evaluator, over all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.utils.enums import CommonKeys

from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.metrics.coco import CocoEvaluation


class LesionAP(Metric):
    """Mask AP over IoU 0.50:0.95 under its own name; AP at 0.50, 0.75 and by class beside it.

    Parameters
    ----------
    mask_type : MaskType or str
        Names the classes.
    output_transform : callable, optional
        From the engine's output to (detections, targets); MONAI's keys if not given.

    Notes
    -----
    NaN where validation slices have no lesion; `training.handlers.not_worse` then takes the latest epoch.
    """

    def __init__(
        self, mask_type: MaskType | str, output_transform: Callable[[Any], Any] | None = None
    ) -> None:
        self.mask_type = MaskType(mask_type)
        self._beside: dict[str, float] = {}
        super().__init__(output_transform or _detections_and_targets)

    def reset(self) -> None:
        """Forget all slices."""
        self._coco = CocoEvaluation(self.mask_type)

    def update(self, output: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]) -> None:
        """Add the slices of a batch."""
        for detection, target in zip(*output, strict=True):
            self._coco.update(detection, target)

    def compute(self) -> float:
        """Return AP over the slices of all processes."""
        everywhere = CocoEvaluation(self.mask_type)
        for part in _gathered(self._coco):
            everywhere.extend(part)
        found = everywhere.compute(masks=True)
        self._beside = {"ap50": found.ap50, "ap75": found.ap75} | {
            f"ap50_{name.lower().replace(' ', '_').replace('-', '_')}": value
            for name, value in found.by_class50.items()
        }
        return found.ap

    def completed(self, engine: Engine, name: str) -> None:
        """Write AP under the name of the metric, the other figures under their own."""
        super().completed(engine, name)
        engine.state.metrics.update(self._beside)


def _gathered(own: CocoEvaluation) -> list[CocoEvaluation]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return parts


def _detections_and_targets(output: Mapping[str, Any]) -> tuple[Any, Any]:
    return output[CommonKeys.PRED], output[CommonKeys.LABEL]
