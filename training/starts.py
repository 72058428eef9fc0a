"""What a training starts from: random weights, ImageNet's from a file, or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from covid_ct_mask_net.checkpoints import DAMAGE, file_sha256, load_model
from covid_ct_mask_net.errors import UntrustedModelError
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import DetectorSettings

RANDOM = "random"
# Settings that shape the weights; the others (thresholds, sampling) may differ from the checkpoint's.
_ARCHITECTURE = ("backbone", "truncation", "mask_type", "representation")


def initial_detector(start: str | Path, settings: DetectorSettings, seed: int) -> LesionDetector:
    """Return a detector with its first weights.

    Parameters
    ----------
    start : str or path
        ``random``; a state dictionary of torchvision's ResNet (``resnet50-….pth``, ImageNet), which fills the
        backbone; or a checkpoint of this project with a detector.
    settings : DetectorSettings
    seed : int
        Of all weights that are not given.

    Raises
    ------
    UntrustedModelError
        If the file is missing, is neither of both, or was made for another architecture; the sentence names
        it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        detector = LesionDetector(settings)
    if str(start) == RANDOM:
        return detector
    path = Path(start)
    state = _plain_state(path)
    if state is not None:
        _fill_backbone(detector, state, path)
        return detector
    found = load_model(path).detector
    if found is None:
        raise UntrustedModelError("WEIGHTS_MISMATCH", f"{path.name} holds no lesion detector to start from.")
    check_architecture(found.settings, settings, path)
    detector.load_state_dict(found.state_dict())
    return detector


def start_settings(start: str | Path) -> dict[str, str]:
    """Return what ``run.json`` says about a start, for the settings of a training.

    Every training calls its weights ``model.pt``, so the hash of a file is there beside its name: a run does
    not go on with other weights than it began with.
    """
    if str(start) == RANDOM:
        return {"weights": RANDOM}
    path = Path(start)
    return {"weights": path.name, "weights_sha256": file_sha256(path)}


def check_architecture(found: DetectorSettings, expected: DetectorSettings, path: Path) -> None:
    """Refuse weights of another architecture.

    Raises
    ------
    UntrustedModelError
        The sentence says what differs.
    """
    for name in _ARCHITECTURE:
        ours, theirs = getattr(expected, name), getattr(found, name)
        if ours != theirs:
            raise UntrustedModelError(
                "WEIGHTS_MISMATCH",
                f"{path.name} was trained with {name} {_plain(theirs)}, but the configuration has "
                f"{_plain(ours)}.",
            )
    if (len(found.anchor_sizes), len(found.anchor_ratios)) != (
        len(expected.anchor_sizes),
        len(expected.anchor_ratios),
    ):
        raise UntrustedModelError(
            "WEIGHTS_MISMATCH", f"{path.name} was trained with another number of anchors."
        )


def _plain_state(path: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a file that is a bare state dictionary, or None if it is something else."""
    if not path.is_file():
        raise UntrustedModelError(
            "WEIGHTS_MISSING", f"There are no weights at {path}; give a file, or start from {RANDOM}."
        )
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise UntrustedModelError(
            "WEIGHTS_UNREADABLE", f"{path.name} cannot be read as weights alone."
        ) from error
    if isinstance(content, dict) and content and all(isinstance(one, Tensor) for one in content.values()):
        return content
    return None


def _fill_backbone(detector: LesionDetector, state: dict[str, Tensor], path: Path) -> None:
    body = detector.backbone.body
    wanted = body.state_dict()
    # Counters of batch normalisation are missing in old files and are not used.
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    wrong = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    if missing or wrong:
        raise UntrustedModelError(
            "WEIGHTS_MISMATCH",
            f"{path.name} does not fit {detector.settings.backbone}: {(missing or wrong)[0]} is missing or "
            "of another size; a state dictionary of torchvision's network of that name was expected.",
        )
    body.load_state_dict(wanted | {name: state[name] for name in wanted if name in state})


def _plain(value: Any) -> str:
    return str(getattr(value, "value", value))
