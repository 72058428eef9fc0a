"""Evaluations of runs as tables need them: figures computed again from predictions, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.networks.settings import FULL_BACKBONE
from covid_ct_mask_net.training.levels import answers
from covid_ct_mask_net.training.metrics.bootstrap import ClassificationIntervals, classification_intervals
from covid_ct_mask_net.training.metrics.classification import confusion_matrix
from covid_ct_mask_net.training.runs import Evaluation, Run
from covid_ct_mask_net.training.tables.published import MODE_NAMES, Variant

OURS = "covid-ct-mask-net"
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
        ``slices``, ``scans`` or ``patients`` (`levels.answers`).
    chosen : (n,) of bool, optional
        Only these slices.

    Raises
    ------
    UsageError
        If there is no such level, or nothing is left to measure.
    """
    predictions = run.predictions[name]
    if chosen is not None:
        predictions = predictions.select(chosen)
    found = answers(predictions, level)
    classes = len(run.info.class_names)
    return Measured(
        run=run,
        evaluation=run.info.evaluations.get(name, Evaluation(name, UNKNOWN)),
        count=found.count,
        confusion=confusion_matrix(found.true, found.predicted, classes),
        intervals=classification_intervals(found.true, found.predicted, found.patients, classes),
    )


def dataset_of(run: Run, name: str) -> str:
    """Return the data set of an evaluation and its source for people: ``CNCB test (internal)``."""
    evaluation = run.info.evaluations.get(name)
    return (
        f"{name}, data set not stated"
        if evaluation is None
        else f"{evaluation.dataset} ({evaluation.source})"
    )


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


def not_of_the_paper(mode: str) -> str:
    """Return the note on runs of a mode that the paper does not have."""
    return (
        f"The paper does not have *{MODE_NAMES[mode]}*: runs of it stand below its rows, for no comparison."
    )


def of_mode(runs: Sequence[Run], mode: str) -> list[Run]:
    """Return the runs of a mode."""
    return [run for run in runs if run.info.mode == mode]
