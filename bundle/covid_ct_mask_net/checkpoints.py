"""Weights on disk: written with their architecture, read only as data, and only if their hash is listed.

A checkpoint is one file with the settings and state dictionaries of the lesion detector, of the classifier,
or of both, and the card of the model (name, version, what it was trained on). It is read with
``weights_only=True``; nothing in it can run. ``MANIFEST.sha256`` beside it lists hashes in the format of
``sha256sum``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

from covid_ct_mask_net import UNTRAINED_NOTICE, __version__
from covid_ct_mask_net.errors import OutputError, UntrustedModelError, UsageError
from covid_ct_mask_net.finite import all_finite
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import ClassifierSettings, DetectorSettings
from covid_ct_mask_net.paths import is_torchscript
from covid_ct_mask_net.result_set import flush_file
from covid_ct_mask_net.results import ModelReport
from covid_ct_mask_net.torchscript import read_torchscript

MANIFEST_NAME = "MANIFEST.sha256"
_FORMAT = "covid-ct-mask-net/checkpoint/1"
# What torch's reader ends in where a file is cut off, altered or of another kind.
DAMAGE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError,
    OverflowError, OSError, struct.error,
)  # fmt: skip
# Some functions of torch.nn.init are seen themselves, of others the method of the tensor that they call.
_RANDOM_FILLS = frozenset(
    {
        torch.Tensor.uniform_, torch.Tensor.normal_, init.uniform_, init.normal_, init.kaiming_uniform_,
        init.kaiming_normal_,
    }
)  # fmt: skip


@dataclass(frozen=True)
class ModelCard:
    """What is said about a model wherever its results go.

    ``notice`` is printed with every result, for example what the model must not be used for.
    """

    name: str
    version: str
    trained_on: str
    notice: str


@dataclass(frozen=True, eq=False)
class Model:
    """Networks that belong together, in test mode, and the report on them."""

    detector: LesionDetector | None
    classifier: CovidCTMaskNet | None
    report: ModelReport


def save_checkpoint(
    path: Path, card: ModelCard, detector: LesionDetector | None, classifier: CovidCTMaskNet | None
) -> None:
    """Write networks to one file; tensors that both hold with equal values are stored once.

    Parameters
    ----------
    path : Path
        File to write; an existing one is replaced.
    card : ModelCard
        Name, version, training data and notice of the model.
    detector, classifier
        The networks; at least one of them.

    Raises
    ------
    OutputError
        ``WEIGHTS_UNWRITTEN`` if the file cannot be written; what stood there before stays.
    """
    if detector is None and classifier is None:
        raise ValueError("A checkpoint holds a detector, a classifier or both, but was given neither.")
    content: dict[str, Any] = {"format": _FORMAT, "card": dataclasses.asdict(card)}
    detector_state: dict[str, torch.Tensor] = {}
    if detector is not None:
        detector_state = _tensors(detector)
        content["detector"] = {"settings": detector.settings.to_dict(), "state": detector_state}
    if classifier is not None:
        state = _tensors(classifier)
        for name, tensor in state.items():
            twin = detector_state.get(name)
            if twin is not None and torch.equal(twin, tensor):
                state[name] = twin
        content["classifier"] = {
            "trunk": classifier.detector_settings.to_dict(),
            "settings": classifier.settings.to_dict(),
            "state": state,
        }
    _write(content, Path(path))


# Tensors of inference mode do not count their changes, which networks with a common trunk are told by.
@torch.inference_mode(False)
def load_model(path: Path, *, manifest_required: bool = False) -> Model:
    """Read every network that a checkpoint holds.

    Parameters
    ----------
    path : Path
        Checkpoint file, or a TorchScript file with both networks (see `torchscript`).
    manifest_required : bool
        Whether ``MANIFEST.sha256`` beside the file must list its hash. Where such a list exists the file
        must be on it in any case.

    Raises
    ------
    UntrustedModelError
        ``WEIGHTS_MISSING``, ``WEIGHTS_UNLISTED``, ``WEIGHTS_UNREADABLE``, ``WEIGHTS_MISMATCH`` or
        ``WEIGHTS_NON_FINITE``.
    """
    path = Path(path)
    sha256 = checked_hash(path, manifest_required)
    content = read_torchscript(path) if is_torchscript(path) else _read(path)
    try:
        return _build(content, sha256, path)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        # Parts are missing, or settings are unknown or of the wrong type: written by another program.
        raise UntrustedModelError(
            "WEIGHTS_MISMATCH", f"{path.name} does not describe its networks as this version does."
        ) from error


def load_classifier(path: Path) -> CovidCTMaskNet:
    """Return the slice classifier of a checkpoint: (B, 1, H, W) in [0, 1] to logits (B, 3)."""
    classifier = load_model(path).classifier
    if classifier is None:
        raise UntrustedModelError(
            "WEIGHTS_MISMATCH", f"{Path(path).name} holds no classifier; give a checkpoint that does."
        )
    return classifier


def load_segmentation(path: Path) -> LesionDetector:
    """Return the lesion detector of a checkpoint: (B, 1, H, W) in [0, 1] to a list of B detections."""
    detector = load_model(path).detector
    if detector is None:
        raise UntrustedModelError(
            "WEIGHTS_MISMATCH", f"{Path(path).name} holds no lesion detector; give a checkpoint that does."
        )
    return detector


@torch.inference_mode(False)
def untrained_model(detector: DetectorSettings, classifier: ClassifierSettings, seed: int) -> Model:
    """Return networks with seeded random weights and equal trunks; their results mean nothing and say so."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        lesion_detector = LesionDetector(detector)
        slice_classifier = CovidCTMaskNet(detector, classifier)
    trunk = {k: v for k, v in lesion_detector.state_dict().items() if k in slice_classifier.state_dict()}
    slice_classifier.load_state_dict(trunk, strict=False)
    digest = hashlib.sha256()
    for network in (lesion_detector, slice_classifier):
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.numpy().tobytes())
    report = ModelReport(
        name=f"COVID-CT-Mask-Net {detector.backbone}",
        version=__version__,
        sha256=digest.hexdigest(),
        trained_on=f"nothing (random weights, seed {seed})",
        notice=UNTRAINED_NOTICE,
    )
    _take_part(lesion_detector, "detector")
    _take_part(slice_classifier, "classifier")
    return Model(lesion_detector.eval(), slice_classifier.eval(), report)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(path: Path) -> dict[str, str]:
    """Return file name to SHA-256 of a manifest in the format of ``sha256sum``."""
    listed = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.strip().partition("  ")
        if name:
            listed[name] = digest
    return listed


def checked_hash(path: Path, manifest_required: bool) -> str:
    """Return the SHA-256 of a file, which the manifest beside it must list; see `load_model`."""
    if not path.is_file():
        raise UntrustedModelError(
            "WEIGHTS_MISSING",
            f"There are no weights at {path}; give the path of a checkpoint, or set weights to untrained.",
        )
    sha256 = file_sha256(path)
    manifest = path.parent / MANIFEST_NAME
    if manifest.is_file():
        expected = read_manifest(manifest).get(path.name)
        if expected != sha256:
            found = "does not list it" if expected is None else f"lists {expected[:12]}…"
            raise UntrustedModelError(
                "WEIGHTS_UNLISTED",
                f"{path.name} has SHA-256 {sha256[:12]}…, but {MANIFEST_NAME} beside it {found}; "
                "restore the file that was released, or list the new one.",
            )
    elif manifest_required:
        raise UntrustedModelError(
            "WEIGHTS_UNLISTED",
            f"{path.name} has no {MANIFEST_NAME} beside it; weights are used only if their hash is listed.",
        )
    return sha256


class _NoRandomWeights(TorchFunctionMode):
    """Networks that are built in this context keep what lies in memory as weights: all are loaded next.

    Drawing millions of random numbers took half of the time of loading a checkpoint.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        named = kwargs or {}
        if function in _RANDOM_FILLS:
            return args[0] if args else named["tensor"]
        return function(*args, **named)


def _write(content: Mapping[str, Any], path: Path) -> None:
    """Write a file whole or not at all: a run that is cut off leaves the last checkpoint as it was."""
    # A name of its own: two runs that write the same checkpoint must not write into one file.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        try:
            torch.save(content, partial)
            flush_file(partial)
            partial.replace(path)
            flush_file(path.parent)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        raise OutputError(
            "WEIGHTS_UNWRITTEN",
            f"The checkpoint {path.name} could not be written; see that its folder exists, is writable "
            "and has room.",
        ) from error


def _build(content: Mapping[str, Any], sha256: str, path: Path) -> Model:
    detector = classifier = None
    if "detector" in content:
        part = content["detector"]
        with _NoRandomWeights():
            detector = LesionDetector(DetectorSettings.from_dict(part["settings"]))
        _load(detector, part["state"], path)
        _take_part(detector, "detector")
    if "classifier" in content:
        part = content["classifier"]
        with _NoRandomWeights():
            classifier = CovidCTMaskNet(
                DetectorSettings.from_dict(part["trunk"]), ClassifierSettings.from_dict(part["settings"])
            )
        _load(classifier, part["state"], path)
        _take_part(classifier, "classifier")
    return Model(detector, classifier, ModelReport(sha256=sha256, **content["card"]))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise UntrustedModelError(
            "WEIGHTS_UNREADABLE",
            f"{path.name} is not a checkpoint that can be read as data alone; files of the original "
            "repository are converted with import-checkpoint.",
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise UntrustedModelError(
            "WEIGHTS_UNREADABLE", f"{path.name} is no checkpoint of this project ({_FORMAT})."
        )
    return content


def _load(network: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UntrustedModelError(
            "WEIGHTS_MISMATCH", f"The weights in {path.name} do not fit the architecture that it states."
        ) from error
    if not all_finite(state.values()):
        raise UntrustedModelError("WEIGHTS_NON_FINITE", f"{path.name} holds weights that are not numbers.")
    network.eval()


def _take_part(network: torch.nn.Module, part: str) -> None:
    """Let ``load_state_dict`` of a network take a whole checkpoint of this project and load its part.

    MONAI's tools (``ckpt_export``, ``onnx_export``, ``CheckpointLoader``) read ``models/model.pt`` and hand
    its content to the network as it is.
    """
    network.register_load_state_dict_pre_hook(partial(_pick, part))  # type: ignore[no-untyped-call]


def _pick(part: str, _: torch.nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Replace the content of a checkpoint by the state dictionary of one of its networks, in place."""
    if prefix == "" and state.get("format") == _FORMAT and part in state:
        weights = state[part]["state"]
        state.clear()
        state.update(weights)


def _tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
