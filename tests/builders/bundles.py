"""Bundles made for tests: the repository's one with small networks and weights of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from builders.networks import CARD, small_model, small_s, small_trunk
from covid_ct_mask_net.checkpoints import MANIFEST_NAME, file_sha256, save_checkpoint

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


def small_bundle(folder: Path, **changes: Any) -> Path:
    """Copy the bundle without its package; give it small networks and listed weights."""
    for part in ("configs", "docs"):
        shutil.copytree(BUNDLE / part, folder / part)
    shutil.copy(BUNDLE / "LICENSE", folder / "LICENSE")
    model = small_model(seed=3, **changes)
    (folder / "models").mkdir()
    weights = folder / "models" / "model.pt"
    save_checkpoint(weights, CARD, model.detector, model.classifier)
    list_weights(folder)
    path = folder / "configs" / "inference.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["weights"] = "models/model.pt"
    for entry, settings in (
        ("detector_settings", small_trunk(**changes)),
        ("classifier_settings", small_s()),
    ):
        config[entry] = {"_target_": config[entry]["_target_"], **settings.to_dict()}
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return folder


def list_weights(folder: Path) -> None:
    """Write the manifest of a bundle's weights."""
    models = folder / "models"
    names = sorted(path.name for path in models.iterdir() if path.name != MANIFEST_NAME)
    lines = [f"{file_sha256(models / name)}  {name}\n" for name in names]
    (models / MANIFEST_NAME).write_text("".join(lines), encoding="utf-8")
