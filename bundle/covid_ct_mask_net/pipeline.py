"""The middle of the product, from a volume in HU to its triage, as the bundle's configuration defines it.

`python -m monai.bundle run` evaluates ``configs/inference.yaml`` by MONAI's engines; the command line and the
application take the same entries of the same file through `VolumePipeline`, so both give the same answer.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from covid_ct_mask_net.checkpoints import Model, ModelCard, checked_hash, load_model, untrained_model
from covid_ct_mask_net.configuration import check_id, configuration_sha256
from covid_ct_mask_net.declining import (
    DECLINED,
    SLICE_CROP,
    SLICE_INDICES,
    SLICE_SAMPLING,
    SLICES,
    DecliningCompose,
    declined,
)
from covid_ct_mask_net.engines.base import Engine, EngineName, Precision
from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.errors import NotAssessableError, UntrustedModelError, UsageError, expected_cause
from covid_ct_mask_net.inference import SliceInferer, lung_space
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import ClassifierSettings, DetectorSettings
from covid_ct_mask_net.networks.triage_network import TriageNetwork
from covid_ct_mask_net.paths import is_torchscript
from covid_ct_mask_net.postprocessing import TriageVolumed
from covid_ct_mask_net.results import ModelReport
from covid_ct_mask_net.torchscript import read_configuration, read_torchscript

UNTRAINED = "untrained"
# Entries of inference.yaml that the record of a run names.
_RECORDED = (
    "engine", "engine_precision", "slices", "coarse_mm", "crop", "window_level", "window_width", "min_score",
    "triage#temperature", "triage#min_confidence",
)  # fmt: skip
# A word or a number; what a bundle of another make computes, or a path, is not repeated.
_WORD = re.compile(r"[a-z0-9_.=]{1,40}")


@dataclass(frozen=True, eq=False)
class VolumePipeline:
    """Three steps over one data dictionary; a volume declined by one passes through the others.

    Attributes
    ----------
    transforms
        From the loaded volume under ``volume`` to ``lung_mask``, ``slices`` and ``slice_indices``.
    inferer, network
        From slices to evidence.
    triage
        From evidence to ``outcome`` and ``lesion_mask``.
    model
        The model that speaks.
    configuration
        Hash of the settings that its answers depend on.
    settings
        Those of them that are one word or number, for the record of a run.
    """

    transforms: DecliningCompose
    inferer: SliceInferer
    network: Engine
    triage: TriageVolumed
    model: ModelReport
    configuration: str = ""
    settings: Mapping[str, bool | float | str] = field(default_factory=dict)

    def prepare(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring the volume into canonical form, find the lungs, extract and window their slices."""
        return self.transforms(data)

    def infer(
        self, data: Mapping[Hashable, Any], progress: Callable[[int], object] | None = None
    ) -> dict[Hashable, Any]:
        """Add the evidence of each lung slice under ``pred``; ``progress`` is told the slices done."""
        if declined(data) is not None:
            return dict(data)
        indices = [int(index) for index in data[SLICE_INDICES]]
        try:
            evidence = self.inferer(
                data[SLICES], self.network, indices, progress, data.get(SLICE_CROP), data.get(SLICE_SAMPLING),
                lung_space(data),
            )  # fmt: skip
        except NotAssessableError as error:
            return {**data, DECLINED: error}
        return {**data, "pred": evidence}

    def assess(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add ``outcome`` and ``lesion_mask`` of the volume."""
        return self.triage(data)


# Whatever mode the caller is in: see load_model.
@torch.inference_mode(False)
def load_pipeline(root: Path | str, settings: Mapping[str, Any] | None = None) -> VolumePipeline:
    """Return the pipeline of a bundle.

    Parameters
    ----------
    root : Path or str
        Bundle folder, whose configuration is code and must be trusted; or a TorchScript file with both
        networks and their configuration, whose hash must be listed in the manifest beside it.
    settings : mapping, optional
        Entries of ``inference.yaml`` to replace, by id (``triage#temperature``); arguments that an entry does
        not name can be set too.

    Raises
    ------
    UsageError
        ``SETTING`` for an id that the configuration does not have.
    UntrustedModelError
        If the folder holds no bundle, or its weights are not trusted.
    """
    root = Path(root)
    parser = _scripted_parser(root) if is_torchscript(root) else _bundle_parser(root)
    # One by one: a later one may be part of an entry that an earlier one replaced.
    for name, value in (settings or {}).items():
        check_id(parser[""], name)
        parser[name] = value
    try:
        return VolumePipeline(
            transforms=parser.get_parsed_content("volume_transforms"),
            inferer=parser.get_parsed_content("inferer"),
            network=parser.get_parsed_content("slice_model"),
            triage=parser.get_parsed_content("triage_volume"),
            model=parser.get_parsed_content("model_report"),
            configuration=configuration_sha256(parser[""]),
            settings=_recorded(parser),
        )
    except RuntimeError as error:
        cause = expected_cause(error)
        if cause is None:
            raise
        raise cause from error


def _recorded(parser: ConfigParser) -> dict[str, bool | float | str]:
    values = {name.rpartition("#")[2]: parser.get(name) for name in _RECORDED}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, bool | int | float) or (isinstance(value, str) and _WORD.fullmatch(value))
    }


def _bundle_parser(root: Path) -> ConfigParser:
    config = root / "configs" / "inference.yaml"
    if not config.is_file():
        raise UntrustedModelError(
            "BUNDLE_MISSING", f"There is no configs/inference.yaml in {root}; name a bundle folder."
        )
    parser = ConfigParser()
    parser.read_config(str(config))
    parser.read_meta(str(root / "configs" / "metadata.json"))
    parser["bundle_root"] = str(root)
    return parser


def _scripted_parser(path: Path) -> ConfigParser:
    checked_hash(path, manifest_required=True)
    metadata, config = read_configuration(path)
    parser = ConfigParser(config)
    parser.read_meta(metadata)
    content = read_torchscript(path)
    architecture = {
        "detector_settings": content["detector"]["settings"],
        "classifier_settings": content["classifier"]["settings"],
    }
    # An overlay of the export is not in the file, but what it was for is: the networks.
    for name, values in architecture.items():
        parser[name] = {"_target_": config[name]["_target_"], **values}
    parser.update({"bundle_root": str(path.parent), "weights": path.name})
    return parser


def build_model(
    weights: str, root: str, detector: DetectorSettings, classifier: ClassifierSettings, seed: int
) -> Model:
    """Return the networks that ``weights`` names.

    Parameters
    ----------
    weights : str
        ``"untrained"`` for seeded random weights, or the path of a checkpoint, relative to the bundle.
    root : str
        Bundle folder.
    detector, classifier : settings
        Architecture of the configuration; a checkpoint of another one is refused.
    seed : int
        Of the random weights.

    Raises
    ------
    UntrustedModelError
        If the checkpoint is missing, not listed in its manifest, or of another architecture.
    """
    if weights == UNTRAINED:
        return untrained_model(detector, classifier, seed)
    model = load_model(Path(root) / weights, manifest_required=True)
    if model.detector is None or model.classifier is None:
        raise UntrustedModelError(
            "WEIGHTS_MISMATCH", f"{weights} must hold a lesion detector and a classifier for triage."
        )
    found = (model.detector.settings, model.classifier.detector_settings, model.classifier.settings)
    if found != (detector, detector, classifier):
        raise UntrustedModelError(
            "WEIGHTS_MISMATCH",
            f"{weights} was made for {found[0].backbone} (truncation {found[0].truncation}, "
            f"{found[2].regions} regions), but the configuration describes {detector.backbone} "
            f"(truncation {detector.truncation}, {classifier.regions} regions) or other settings; "
            "use the configuration that belongs to the weights.",
        )
    return model


def detector_network(model: Model, use_list_output: bool) -> LesionDetector:
    """Return the lesion detector of a model.

    Parameters
    ----------
    model : Model
    use_list_output : bool
        Whether it answers with a list of tensors (see `FixedSizeDetector`) instead of dictionaries.
    """
    if model.detector is None:
        raise UntrustedModelError("WEIGHTS_MISMATCH", "The weights hold no lesion detector.")
    model.detector.use_list_output = use_list_output
    return model.detector


def triage_network(model: Model) -> TriageNetwork:
    """Return both networks of a model as one, for a TorchScript file that stands for a bundle."""
    if model.detector is None or model.classifier is None:
        raise UntrustedModelError("WEIGHTS_MISMATCH", "Triage needs a lesion detector and a classifier.")
    names = (field.name for field in dataclasses.fields(ModelCard))
    card = {name: str(getattr(model.report, name)) for name in names}
    return TriageNetwork(model.detector, model.classifier, card)


def slice_model(
    model: Model,
    min_score: float,
    device: torch.device | str,
    engine: str = EngineName.AUTO,
    precision: str = Precision.AUTO,
    workers: int = 0,
    cache: str | None = None,
    batch: int = 0,
) -> Engine:
    """Return both networks of a model as one, in test mode, by an engine; see `build_engine`."""
    if model.detector is None or model.classifier is None:
        raise UntrustedModelError("WEIGHTS_MISMATCH", "Triage needs a lesion detector and a classifier.")
    _check_device(device)
    return build_engine(
        model.detector, model.classifier, min_score,
        name=engine, device=device, precision=precision, workers=workers, cache=cache, batch=batch,
    )  # fmt: skip


def _check_device(device: torch.device | str) -> None:
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise UsageError(
            "DEVICE", f"There is no device {device!r}; cpu, cuda or cuda:N is expected."
        ) from error
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            "DEVICE",
            f"The device {wanted} was asked for, but there are {torch.cuda.device_count()} GPUs; leave the "
            "device out to use what there is.",
        )


def model_report(model: Model, engine: Engine) -> ModelReport:
    """Return the report on a model with the engine that computes it."""
    return dataclasses.replace(model.report, engine=engine.report)
