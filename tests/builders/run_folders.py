"""Run folders with made-up predictions, in the format that trainers write."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from covid_ct_mask_net.labels import SLICE_CLASS_NAMES
from covid_ct_mask_net.training.predictions import write_predictions
from covid_ct_mask_net.training.runs import (
    Evaluation,
    RunInfo,
    append_history,
    read_run,
    write_info,
    write_metrics,
)


def records(patients: int = 12, slices: int = 5, classes: int = 3) -> list[dict[str, Any]]:
    """Return data dictionaries of slices, patients dealt to classes in turn."""
    return [
        {
            "file": f"{patient % classes}_{patient}_{patient + 100}_{index:04d}.png",
            "patient": str(patient), "scan": str(patient + 100), "slice": index,
            "slice_class": patient % classes,
        }
        for patient in range(patients)
        for index in range(slices)
    ]  # fmt: skip


def logits_for(rows: list[dict[str, Any]], classes: int = 3, seed: int = 0) -> np.ndarray:
    """Return logits (n, classes) that are right most of the time."""
    true = np.array([row["slice_class"] for row in rows])
    return 3.0 * np.eye(classes)[true] + np.random.default_rng(seed).normal(0, 1.2, (len(rows), classes))


def make_classifier_run(
    folder: Path,
    mode: str = "s_bn",
    *,
    binary: bool = False,
    model: str = "covid-ct-mask-net",
    **changes: Any,
) -> Path:
    """Write a classifier's run with test, validation and left-out predictions."""
    classes = 2 if binary else 3
    rows = records(classes=classes)
    info = RunInfo(
        kind="binary" if binary else "classifier",
        mode=mode,
        model=model,
        class_names=("Negative", "COVID-19") if binary else SLICE_CLASS_NAMES,
        settings={"training": {"epochs": 50, "learning_rate": 1e-5, "weight_decay": 1e-3}},
        parameters={"total": 31_522_845, "trainable": 2_409_859},
        training_patients=("0/0", "1/1", "2/2"),
        evaluations={
            "test": Evaluation("iCTCF test" if binary else "COVIDx-CT v1 test"),
            "left_out": Evaluation("COVIDx-CT v1 train, left out"),
            "validation": Evaluation("iCTCF validation" if binary else "COVIDx-CT v1 val"),
        },
        **changes,
    )
    write_info(folder, info)
    for number, name in enumerate(("test", "validation", "left_out")):
        write_predictions(folder, rows, logits_for(rows, classes, seed=number), name)
    for epoch in range(1, 4):
        append_history(folder, {"epoch": epoch, "train/loss": 1 / epoch, "val/accuracy": 0.5 + 0.1 * epoch})
    return folder


def add_predictions(
    folder: Path, rows: list[dict[str, Any]], logits: ArrayLike, name: str, source: str = "internal"
) -> None:
    """Write a further evaluation into a run folder, as `WriteClassifications` does."""
    write_predictions(folder, rows, logits, name)
    info = read_run(folder).info
    write_info(
        folder, dataclasses.replace(info, evaluations={**info.evaluations, name: Evaluation(name, source)})
    )


def make_segmentation_run(
    folder: Path, mode: str = "full", ap50: float = 0.5, source: str = "internal"
) -> Path:
    """Write a segmentation run with detection figures."""
    evaluations = {"test": Evaluation("CNCB test" if source == "internal" else "another hospital", source)}
    write_info(
        folder,
        RunInfo(kind="segmentation", mode=mode, parameters={"total": 31_781_917}, evaluations=evaluations),
    )
    figures = {"ap": 0.3, "ap50": ap50, "ap75": 0.25, "by_class": {}, "by_class50": {}}
    write_metrics(
        folder,
        {
            "test": {
                "slices": 100,
                "coco_mask": figures,
                "coco_box": figures,
                "original_image_ap": {"ap": 0.35, "ap50": 0.56, "ap75": 0.41},
                "lesion_dice": {"dice": {"Ground-glass opacity": 0.6}, "slice_dice": {}},
            }
        },
    )
    append_history(folder, {"epoch": 1, "loss_mask": 0.7})
    return folder
