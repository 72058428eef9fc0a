"""Runs of the bundle's training configurations on tiny data, within the test process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from covid_ct_mask_net.paths import bundle_root

# ResNet18 cut after its second stage on slices of 64 pixels: a step takes a tenth of a second.
TINY_DETECTOR = {
    "backbone": "resnet18",
    "truncation": 2,
    "detector_settings#image_min_size": 64,
    "detector_settings#image_max_size": 128,
    "detector_settings#rpn_top_training": 100,
    "detector_settings#rpn_top_testing": 100,
    "minimum_area": 20,
}
SHORT = {
    "batch_size": 2,
    "learning_rate": 1e-3,
    "validation_share": 0.2,
    "progress_bar": False,
    "tensorboard": False,
}


def workflow(
    config: str | list[str], data: Path, run: Path, settings: Mapping[str, Any], **changes: Any
) -> ConfigWorkflow:
    """Return a training of the bundle, not started; ``a__b`` in changes means ``a#b``."""
    names = [config] if isinstance(config, str) else config
    return ConfigWorkflow(
        config_file=[str(bundle_root() / "configs" / name) for name in names],
        workflow_type="train",
        logging_file=False,
        dataset_dir=str(data),
        output_dir=str(run),
        **{**settings, **{name.replace("__", "#"): value for name, value in changes.items()}},
    )


def segmentation_workflow(data: Path, run: Path, **changes: Any) -> ConfigWorkflow:
    """Return the training of a tiny detector, not started."""
    return workflow("train_segmentation.yaml", data, run, TINY_DETECTOR | SHORT, **changes)


def classifier_workflow(data: Path, run: Path, *overlays: str, **changes: Any) -> ConfigWorkflow:
    """Return the training of a tiny classifier, not started."""
    return workflow(["train_classifier.yaml", *overlays], data, run, SHORT, **changes)


def train_segmentation(data: Path, run: Path, **changes: Any) -> Path:
    """Train a tiny detector and return the run folder."""
    return finish(segmentation_workflow(data, run, **changes), run)


def train_classifier(data: Path, run: Path, *overlays: str, **changes: Any) -> Path:
    """Train a tiny classifier and return the run folder."""
    return finish(classifier_workflow(data, run, *overlays, **changes), run)


def finish(training: ConfigWorkflow, run: Path) -> Path:
    """Run a training and return the run folder."""
    hook = sys.excepthook
    try:
        training.initialize()
        training.run()
    finally:
        sys.excepthook = hook
    return run
