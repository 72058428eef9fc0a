"""Evaluations of runs as tables need them: figures computed again from predictions, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.networks.settings import FULL_BACKBONE
from covid_ct_mask_net.training.metrics.bootstrap import ClassificationIntervals, classification_intervals
from covid_ct_mask_net.training.metrics.calibration import probabilities
from covid_ct_mask_net.training.metrics.classification import confusion_matrix
from covid_ct_mask_net.training.metrics.pooling import pool
from covid_ct_mask_net.training.predictions import Predictions
from covid_ct_mask_net.training.runs import Evaluation, Run
from covid_ct_mask_net.training.tables.published import Variant

OURS = "covid-ct-mask-net"
LEVELS = ("slices", "scans", "patients")
# Source of predictions that run.json does not describe.
UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class Measured:
    """One evaluation of one run.

    Attributes
    ----------
    run
        Where it comes from.
    evaluation
        Data set and source, as ``run.json`` has them.
    count
        Number of slices, or of scans or patients.
    confusion
        (classes, classes), rows true.
    intervals
        Eq. 3 to 6 with patient-clustered 95 % intervals.
    """

    run: Run
    evaluation: Evaluation
    count: int
    confusion: NDArray[np.int64]
    intervals: ClassificationIntervals

    @property
    def label(self) -> str:
        """Run folder and model, for people."""
        return run_label(self.run)

    @property
    def external(self) -> bool:
        """Whether the slices come from another collection than those trained on."""
        return self.evaluation.source == "external"


def run_label(run: Run) -> str:
    """Return folder name and model of a run: ``seed-1: covid-ct-mask-net s_bn (both), resnet18 …``."""
    light = light_backbone(run)
    return f"{run.folder.name}: {run.info.label}" + (f", {light}" if light else "")


def light_backbone(run: Run) -> str:
    """Return ``resnet18 truncated by 1`` for a light model; empty for ResNet50 and where it is unknown."""
    detector = run.info.settings.get("detector", {})
    backbone = detector.get("backbone", FULL_BACKBONE)
    return "" if backbone == FULL_BACKBONE else f"{backbone} truncated by {detector.get('truncation', 0)}"


def variant(run: Run) -> Variant:
    """Return which network a run is of, to find published figures of the same; unstated is ResNet50."""
    detector = run.info.settings.get("detector", {})
    backbone, truncation = detector.get("backbone", FULL_BACKBONE), detector.get("truncation", 0)
    return Variant(backbone, truncation, run.info.mask_type, run.info.mode)


def measure(run: Run, name: str, level: str = "slices", chosen: NDArray[np.bool_] | None = None) -> Measured:
    """Return the figures of one evaluation of a run.

    Parameters
    ----------
    run : Run
        With predictions of that name.
    name : str
        Of the evaluation.
    level : str
        ``slices``, or ``scans`` or ``patients``, whose slices' probabilities are averaged.
    chosen : (n,) of bool, optional
        Only these slices.
    """
    predictions = run.predictions[name]
    if chosen is not None:
        predictions = predictions.select(chosen)
    true, predicted, patients = answers(predictions, level)
    classes = len(run.info.class_names)
    return Measured(
        run=run,
        evaluation=run.info.evaluations.get(name, Evaluation(name, UNKNOWN)),
        count=len(true),
        confusion=confusion_matrix(true, predicted, classes),
        intervals=classification_intervals(true, predicted, patients, classes),
    )


def answers(
    predictions: Predictions, level: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], Sequence[str]]:
    """Return true classes, predicted classes and the patient of each slice, scan or patient."""
    if level == "slices":
        return predictions.true, predictions.predicted, predictions.patients
    if level not in LEVELS:
        raise UsageError("LEVEL", f"The level is {level!r}, but must be {', '.join(LEVELS)}.")
    # A patient with slices of two classes (iCTCF) counts once for each, and is resampled as one.
    groups = owners(predictions)
    if level == "scans":
        groups = [f"{owner}/{scan}" for owner, scan in zip(groups, predictions.scans, strict=True)]
    owner_of = dict(zip(groups, predictions.patients, strict=True))
    pooled = pool(probabilities(predictions.logits), predictions.true, groups)
    return pooled.true, pooled.predicted, [owner_of[str(group)] for group in pooled.groups]


def owners(predictions: Predictions) -> list[str]:
    """Return ``class/patient`` of each slice, as `runs.RunInfo.training_patients` has them."""
    return [f"{true}/{name}" for true, name in zip(predictions.true, predictions.patients, strict=True)]


def with_predictions(runs: Sequence[Run], name: str, kind: str, *, baselines: bool = False) -> list[Run]:
    """Return the runs of a kind that have such an internal evaluation; ours, or the baselines.

    External ones have a table of their own (`external`).
    """
    return [
        run
        for run in runs
        if run.info.kind == kind
        and name in run.predictions
        and internal(run, name)
        and (run.info.model != OURS) is baselines
    ]


def internal(run: Run, name: str) -> bool:
    """Whether an evaluation is known to be on slices of the collection that was trained on."""
    return name in run.info.evaluations and run.info.evaluations[name].source == "internal"


def of_mode(runs: Sequence[Run], mode: str) -> list[Run]:
    """Return the runs of a mode."""
    return [run for run in runs if run.info.mode == mode]
