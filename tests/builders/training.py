"""Runs of the bundle's training configurations on tiny data, within the test process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from covid_ct_mask_net.paths import bundle_root

# ResNet18 cut after its second stage on slices of 64 pixels: a step takes a tenth of a second.
TINY = {
    "backbone": "resnet18",
    "truncation": 2,
    "detector_settings#image_min_size": 64,
    "detector_settings#image_max_size": 128,
    "detector_settings#rpn_top_training": 100,
    "detector_settings#rpn_top_testing": 100,
    "minimum_area": 20,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "validation_share": 0.2,
    "progress_bar": False,
    "tensorboard": False,
}


def workflow(config: str, data: Path, run: Path, **changes: Any) -> ConfigWorkflow:
    """Return a training of the bundle, not started."""
    return ConfigWorkflow(
        config_file=str(bundle_root() / "configs" / config),
        workflow_type="train",
        logging_file=False,
        dataset_dir=str(data),
        output_dir=str(run),
        **(TINY | {name.replace("__", "#"): value for name, value in changes.items()}),
    )


def train_segmentation(data: Path, run: Path, **changes: Any) -> Path:
    """Train a tiny detector and return the run folder."""
    return _finish(workflow("train_segmentation.yaml", data, run, **changes), run)


def _finish(training: ConfigWorkflow, run: Path) -> Path:
    hook = sys.excepthook
    try:
        training.initialize()
        training.run()
    finally:
        sys.excepthook = hook
    return run
