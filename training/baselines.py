"""Whole-slice networks, trained and tested in the same harness as COVID-CT-Mask-Net.

Whether regional features beat features of the whole slice is the paper's claim (Table 5), which it supports
by citation alone. These networks see the same slices, splits, epochs, loss and metrics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from covid_ct_mask_net.checkpoints import DAMAGE, load_model
from covid_ct_mask_net.errors import OutputError, UntrustedModelError, UsageError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet

_FORMAT = "covid-ct-mask-net/baseline/1"
RANDOM = "random"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# light-cnn: SqueezeNet, which the LightCNN of Table 5 (Polsinelli et al. 2020) is a variant of.
BASELINES: Mapping[str, Callable[..., nn.Module]] = {
    "resnet50": models.resnet50,
    "resnet18": models.resnet18,
    "densenet121": models.densenet121,
    "light-cnn": models.squeezenet1_1,
}


class WholeSliceClassifier(nn.Module):
    """A classification network of torchvision on whole slices.

    ``forward`` takes slices (B, 1, H, W), or a sequence of slices (1, H, W) of any sizes, in [0, 1] and
    returns logits (B, classes), as `CovidCTMaskNet` does.

    Parameters
    ----------
    name : str
        ``resnet50``, ``resnet18``, ``densenet121`` or ``light-cnn``.
    classes : int
    size : int
        Slices are resized to (size, size).
    """

    def __init__(self, name: str, classes: int, size: int) -> None:
        super().__init__()
        if name not in BASELINES:
            raise UsageError("BASELINE", f"There is no baseline {name!r}; there are {', '.join(BASELINES)}.")
        self.name, self.classes, self.size = name, classes, size
        self.mean: Tensor
        self.std: Tensor
        self.network = BASELINES[name](weights=None, num_classes=classes)
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the logits of slices (see the class)."""
        resized = [
            nn.functional.interpolate(
                image[None], size=(self.size, self.size), mode="bilinear", align_corners=False
            )
            for image in images
        ]
        logits: Tensor = self.network((torch.cat(resized) - self.mean) / self.std)
        return logits


def initial_baseline(
    name: str, classes: int, size: int, start: str | Path, seed: int
) -> WholeSliceClassifier:
    """Return a baseline with its first weights.

    Parameters
    ----------
    name : str
    classes, size : int
    start : str or path
        ``random``, or a state dictionary of torchvision's network of that name (ImageNet), whose last layer
        is left out.
    seed : int
        Of all weights that are not given.

    Raises
    ------
    UntrustedModelError
        If the file is missing, is no state dictionary or belongs to another network.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        baseline = WholeSliceClassifier(name, classes, size)
    if str(start) == RANDOM:
        return baseline
    path = Path(start)
    state = _read(path)
    own = baseline.network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    left_out = {key.rsplit(".", 1)[0] for key in own if key not in fitting and "num_batches" not in key}
    # The last layer alone tells other classes apart.
    if len(left_out) > 1:
        raise UntrustedModelError(
            "WEIGHTS_MISMATCH", f"{path.name} does not hold the weights of torchvision's {name}."
        )
    baseline.network.load_state_dict(fitting, strict=False)
    return baseline


def save_baseline(path: Path, baseline: WholeSliceClassifier) -> None:
    """Write a baseline, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    content = {
        "format": _FORMAT, "name": baseline.name, "classes": baseline.classes, "size": baseline.size,
        "state": {key: tensor.detach().cpu() for key, tensor in baseline.network.state_dict().items()},
    }  # fmt: skip
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError("WEIGHTS_UNWRITTEN", f"The checkpoint {path.name} could not be written.") from error


def load_slice_classifier(path: str | Path) -> CovidCTMaskNet | WholeSliceClassifier:
    """Return the classifier of a checkpoint in test mode: COVID-CT-Mask-Net, or a baseline.

    Raises
    ------
    UntrustedModelError
        If the file is missing, damaged, or holds no classifier.
    """
    path = Path(path)
    content = _read(path)
    if content.get("format") == _FORMAT:
        baseline = WholeSliceClassifier(content["name"], content["classes"], content["size"])
        baseline.network.load_state_dict(content["state"])
        return baseline.eval()
    classifier = load_model(path).classifier
    if classifier is None:
        raise UntrustedModelError("WEIGHTS_MISMATCH", f"{path.name} holds no slice classifier.")
    return classifier


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UntrustedModelError("WEIGHTS_MISSING", f"There are no weights at {path}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise UntrustedModelError(
            "WEIGHTS_UNREADABLE", f"{path.name} is not a file that can be read as data alone."
        ) from error
    if not isinstance(content, dict):
        raise UntrustedModelError("WEIGHTS_UNREADABLE", f"{path.name} holds no weights by name.")
    return content
