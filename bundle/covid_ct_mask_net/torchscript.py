"""A TorchScript file in the place of a bundle: weights, settings, metadata and configuration in one file.

``python -m monai.bundle ckpt_export triage_def`` writes it. The weights are taken out of it and computed like
those of a checkpoint, by any engine and with the same answers; the compiled code in it is not run. It is
loaded only if its hash is listed (see `checkpoints`), for its configuration is code.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from covid_ct_mask_net.errors import UntrustedModelError

METADATA, CONFIGURATION = "metadata.json", "inference.json"
# Where `FixedSizeTrunk` and its like keep the modules of the networks.
_DETECTOR_NAMES = {
    "trunk.backbone.": "backbone.",
    "trunk.rpn_head.": "rpn.head.",
    "trunk.box_head.": "roi_heads.box_head.",
    "trunk.box_predictor.": "roi_heads.box_predictor.",
    "mask_head.": "roi_heads.mask_head.",
    "mask_predictor.": "roi_heads.mask_predictor.",
}
_CLASSIFIER_NAMES = {**_DETECTOR_NAMES, "s.": "s."}


def read_torchscript(path: Path) -> dict[str, Any]:
    """Return the content of a TorchScript file as that of a checkpoint: card, and settings and state by part.

    Parameters
    ----------
    path : Path
        A trusted file; see `checkpoints.load_model`.

    Raises
    ------
    UntrustedModelError
        ``WEIGHTS_UNREADABLE`` if it is no export of ``triage_def``.
    """
    try:
        script = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        description = json.loads(script.description)
        state = script.state_dict()
        return {
            "card": description["card"],
            "detector": {
                "settings": description["detector"],
                "state": _renamed(state, "detector.", _DETECTOR_NAMES),
            },
            "classifier": {
                "trunk": description["trunk"],
                "settings": description["classifier"],
                "state": _renamed(state, "classifier.", _CLASSIFIER_NAMES),
            },
        }
    except (RuntimeError, AttributeError, ValueError, LookupError, TypeError) as error:
        raise UntrustedModelError(
            "WEIGHTS_UNREADABLE",
            f"{path.name} is a TorchScript file, but not one with both networks; export it with "
            "python -m monai.bundle ckpt_export triage_def.",
        ) from error


def read_configuration(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the metadata and the inference configuration that a TorchScript file carries.

    Parameters
    ----------
    path : Path
        A trusted file.

    Raises
    ------
    UntrustedModelError
        ``BUNDLE_MISSING`` if it carries none.
    """
    found: dict[str, dict[str, Any]] = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            _, _, inside = name.partition("/")
            if inside in (f"extra/{METADATA}", f"extra/{CONFIGURATION}"):
                found[inside.removeprefix("extra/")] = json.loads(archive.read(name))
    if set(found) != {METADATA, CONFIGURATION}:
        raise UntrustedModelError(
            "BUNDLE_MISSING",
            f"{path.name} does not carry {METADATA} and {CONFIGURATION}; export it with --meta_file and "
            "--config_file, the latter configs/inference.yaml.",
        )
    return found[METADATA], found[CONFIGURATION]


def _renamed(state: Mapping[str, Tensor], part: str, names: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        if name.startswith(part):
            inside = name.removeprefix(part)
            for exported, own in names.items():
                if inside.startswith(exported):
                    renamed[own + inside.removeprefix(exported)] = tensor
    return renamed
