"""Runs of the bundle's evaluation configurations within the test process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from builders.networks import CARD, small_model
from covid_ct_mask_net.checkpoints import save_checkpoint
from covid_ct_mask_net.paths import bundle_root


def evaluation_workflow(config: str | list[str], data: Path, run: Path, **changes: Any) -> ConfigWorkflow:
    """Return an evaluation of the bundle, not started; ``a__b`` in changes means ``a#b``."""
    names = [config] if isinstance(config, str) else config
    configs = bundle_root() / "configs"
    return ConfigWorkflow(
        config_file=[str(configs / name) for name in names],
        meta_file=str(configs / "metadata.json"),
        workflow_type="infer",
        logging_file=False,
        dataset_dir=str(data),
        output_dir=str(run),
        **{name.replace("__", "#"): value for name, value in changes.items()},
    )


def evaluate(config: str | list[str], data: Path, run: Path, **changes: Any) -> Path:
    """Run an evaluation of the bundle and return the run folder."""
    workflow = evaluation_workflow(config, data, run, **changes)
    hook = sys.excepthook
    try:
        workflow.initialize()
        workflow.run()
    finally:
        sys.excepthook = hook
    return run


def missing_properties(config: str | list[str], data: Path, run: Path) -> list[str] | None:
    """Return the properties of a MONAI bundle that an evaluation lacks."""
    workflow = evaluation_workflow(config, data, run)
    hook = sys.excepthook
    try:
        workflow.initialize()
    finally:
        sys.excepthook = hook
    return workflow.check_properties()


def small_weights(folder: Path, **changes: Any) -> Path:
    """Write model.pt with a small detector and classifier into a run folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = small_model(**changes)
    save_checkpoint(folder / "model.pt", CARD, model.detector, model.classifier)
    return folder
