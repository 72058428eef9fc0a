"""The stock operators of the MONAI Deploy App SDK, one after the other as an application connects them.

Their own ``compute`` methods run, on ports of ours; nothing in them is replaced.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import torch
from monai.deploy.core import AppContext, Fragment, Image, IOType
from monai.deploy.core.domain import DICOMStudy, StudySelectedSeries
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator
from monai.deploy.operators.dicom_text_sr_writer_operator import DICOMTextSRWriterOperator
from monai.deploy.operators.dicom_utils import ModelInfo
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator
from pydicom.dataset import Dataset

from builders.ports import InputPort, OutputPort


@dataclass(frozen=True)
class Stock:
    """What the stock operators make of a folder of DICOM files."""

    studies: list[DICOMStudy]
    selected: list[StudySelectedSeries]
    image: Image

    @property
    def depth_mm(self) -> float:
        """Distance of slices that it passes on."""
        return float(self.image.metadata()["depth_pixel_spacing"])


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep what the operators print and log to ourselves, and pydicom as an application finds it."""
    logging.disable(logging.CRITICAL)
    mode = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.WARN
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        pydicom.config.settings.writing_validation_mode = mode
        logging.disable(logging.NOTSET)


def load(folder: Path) -> list[DICOMStudy]:
    """DICOMDataLoaderOperator."""
    output = OutputPort()
    with silence():
        operator = DICOMDataLoaderOperator(Fragment(), input_folder=folder)
        operator.compute(InputPort(), output, None)
    return output.emitted[0][1]


def select(studies: list[DICOMStudy]) -> list[StudySelectedSeries]:
    """DICOMSeriesSelectorOperator without rules: the series are taken as they come."""
    output = OutputPort()
    with silence():
        operator = DICOMSeriesSelectorOperator(Fragment(), rules="")
        operator.compute(InputPort(**{operator.input_name_study_list: studies}), output, None)
    return output.emitted[0][1]


def read(folder: Path) -> Stock:
    """Loader, selector, DICOMSeriesToVolumeOperator."""
    studies = load(folder)
    selected = select(studies)
    output = OutputPort()
    with silence():
        operator = DICOMSeriesToVolumeOperator(Fragment())
        operator.compute(InputPort(**{operator.input_name_series: selected}), output, None)
    return Stock(studies, selected, output.emitted[0][1])


def report(selected: list[StudySelectedSeries], text: str, folder: Path) -> Dataset:
    """DICOMTextSRWriterOperator."""
    with silence():
        operator = DICOMTextSRWriterOperator(
            Fragment(),
            output_folder=folder,
            model_info=ModelInfo("maker", "model", "1.0", "1.2.3"),
        )
        ports = {operator.input_name_text: text, operator.input_name_dcm_series: selected}
        operator.compute(InputPort(**ports), OutputPort(), None)
    (path,) = folder.glob("*.dcm")
    return pydicom.dcmread(path)


class _Probabilities(torch.nn.Module):
    """A classifier that is sure of what it says."""

    def __init__(self, logits: Sequence[float]) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor([logits]))

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        return self.logits + 0.0 * volume.mean()


def classify(image: Image, logits: Sequence[float], names: Sequence[str], folder: Path) -> dict[str, Any]:
    """MonaiBundleInferenceOperator on a bundle whose network gives these logits for these classes."""
    path = folder / "model.ts"
    formats = {
        "inputs": {"image": {"type": "image", "num_channels": 1}},
        "outputs": {
            "pred": {"type": "probabilities", "channel_def": {str(i): n for i, n in enumerate(names)}}
        },
    }
    inference = {
        "device": "cpu",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": "no_channel"},
                           {"_target_": "CastToTyped", "keys": "image", "dtype": "$torch.float32"}],
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
        },
        "imports": ["$import torch"],
    }  # fmt: skip
    metadata = {"version": "1", "network_data_format": formats}
    extra = {"metadata.json": json.dumps(metadata), "inference.json": json.dumps(inference)}
    torch.jit.save(torch.jit.script(_Probabilities(logits).eval()), str(path), _extra_files=extra)
    output = OutputPort()
    output.get = lambda _: None  # type: ignore[attr-defined]
    with silence():
        operator = MonaiBundleInferenceOperator(
            Fragment(),
            app_context=AppContext({}),
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", dict, IOType.IN_MEMORY)],
            bundle_path=path,
        )
        operator.compute(InputPort(image=image), output, None)
    return output.emitted[0][0] if isinstance(output.emitted[0][0], dict) else output.emitted[0][1]
