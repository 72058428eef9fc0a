"""The reference engine: the networks as torch and torchvision compute them, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from covid_ct_mask_net.engines.base import Engine, EngineName, Precision, whole_float32
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.slice_model import SliceOutput
from covid_ct_mask_net.results import EngineReport


class TorchEngine(Engine):
    """`SliceModel` itself, on a device, in float32.

    RPN and NMS go slice by slice, as torchvision has them; `BatchedEngine` does without.

    Parameters
    ----------
    detector, classifier
        The networks, in test mode; they are moved to the device.
    min_score : float
        Detections below are not outlined.
    device : torch.device
    note : str
        Why this engine was chosen over a faster one.
    """

    def __init__(
        self,
        detector: LesionDetector,
        classifier: CovidCTMaskNet,
        min_score: float,
        device: torch.device,
        note: str = "",
    ) -> None:
        super().__init__(detector, classifier, min_score)
        self.to(device).eval()
        self.report = EngineReport(
            EngineName.TORCH.value,
            Precision.FLOAT32.value,
            torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            f"torch {torch.__version__}",
            note,
        )

    def forward(
        self, slices: Tensor | Sequence[Tensor], scales: Sequence[float] | None = None
    ) -> list[SliceOutput]:
        """Return one output a slice, in order; as `SliceModel`."""
        with whole_float32():
            return super().forward(slices, scales)
