"""A phantom with lesions at known places, and a network that sees exactly those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from builders.dicom import phantom_hu
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.networks.settings import DetectorSettings
from covid_ct_mask_net.networks.slice_model import SliceOutput
from covid_ct_mask_net.networks.slice_transform import SliceTransform
from covid_ct_mask_net.paths import bundle_root
from covid_ct_mask_net.pipeline import VolumePipeline, load_pipeline
from covid_ct_mask_net.results import EngineReport

# HU that nothing else in the phantom has.
GGO_HU, CONSOLIDATION_HU = -500.0, -200.0
SPACING = (5.0, 3.5, 3.5)
_LEVEL, _WIDTH = -600.0, 1500.0

# The oracle is right on every slice: it needs no rule that was fitted to the shipped weights.
_RULES = {
    "pooling": {"_target_": "covid_ct_mask_net.triage.pooling.CappedTopKMean", "k": 8, "ceiling": 0.9},
    "triage": {
        "_target_": "covid_ct_mask_net.triage.volume_triage.VolumeTriage",
        "pooling": "@pooling",
    },
}


def chest_with_lesions(*, lesions: bool = True) -> NDArray[np.float32]:
    """A chest large enough to pass the gates; GGO right, low and posterior, consolidation left and high.

    Shape (slices, rows, columns) = (40, 96, 96), head first supine; spacing `SPACING`.
    """
    hu = phantom_hu((40, 96, 96))
    if lesions:
        hu[9:13, 52:60, 24:32] = GGO_HU
        hu[27:30, 40:46, 64:70] = CONSOLIDATION_HU
    return hu


class Oracle(nn.Module):
    """Stands for a `SliceModel`: outlines the lesions of the phantom and calls their slices COVID-19.

    One that ``suspects`` calls all slices COVID-19 and outlines nothing that is not there.
    """

    def __init__(self, *, suspects: bool = False) -> None:
        super().__init__()
        self.suspects = suspects
        self.detector = nn.Module()
        self.detector.settings = DetectorSettings()
        self.classifier = nn.Module()
        self.classifier.transform = SliceTransform(DetectorSettings())
        self.report = SimpleNamespace(name="oracle", note="")
        self.anchor = nn.Parameter(torch.zeros(1))
        self.report = EngineReport(name="torch", precision="float32", device="cpu", runtime="oracle")

    def forward(
        self, slices: Tensor | Sequence[Tensor], scales: Sequence[float] | None = None
    ) -> list[SliceOutput]:
        del scales
        return [self._look(image[0].numpy()) for image in slices]

    def warm(self) -> None:
        """Nothing to get ready."""

    def _look(self, image: NDArray[np.float32]) -> SliceOutput:
        boxes, labels = [], []
        for label, hu in ((1, GGO_HU), (2, CONSOLIDATION_HU)):
            value = (hu - _LEVEL + _WIDTH / 2) / _WIDTH
            found, _ = ndimage.label(np.abs(image - value) < 1e-3)
            for rows, columns in ndimage.find_objects(found):
                # Half a pixel in: torchvision draws masks up to the pixel that a corner lies in.
                boxes.append((columns.start + 0.5, rows.start + 0.5, columns.stop - 0.5, rows.stop - 0.5))
                labels.append(label)
        disease = SliceClass.COVID_19 if boxes or self.suspects else SliceClass.CONTROL
        return SliceOutput(
            logits=6.0 * torch.eye(3)[disease],
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.int64),
            scores=torch.full((len(boxes),), 0.9),
            masks=torch.ones(len(boxes), 1, 28, 28),
        )


def oracle_pipeline(
    root: Path | None = None, *, suspects: bool = False, settings: Mapping[str, Any] | None = None
) -> VolumePipeline:
    """The bundle's pipeline with the oracle in place of the network."""
    import dataclasses

    pipeline = load_pipeline(root or bundle_root(), {"weights": "untrained", **_RULES, **(settings or {})})
    return dataclasses.replace(pipeline, network=Oracle(suspects=suspects).eval())
