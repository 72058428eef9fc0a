"""Figures of numbers: training curves, confusion matrices, reliability, distributions (paper, Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.training.lesion_statistics import SliceLesions
from covid_ct_mask_net.training.metrics.calibration import (
    Reliability,
    fit_temperature,
    probabilities,
    reliability,
)
from covid_ct_mask_net.training.metrics.classification import confusion_matrix
from covid_ct_mask_net.training.predictions import MAIN
from covid_ct_mask_net.training.runs import Run
from covid_ct_mask_net.training.tables.checks import VALIDATION
from covid_ct_mask_net.training.tables.drawing import CLASS_COLOURS, LESION_COLOURS, drawn
from covid_ct_mask_net.training.tables.measured import run_label

_UNPLOTTED = ("epoch", "lr", "learning_rate", "seconds")
_MOST_INSTANCES = 15


def training_curves(run: Run, path: Path) -> Path | None:
    """Draw losses and validation figures over epochs; None where the run has no history."""
    columns = {
        name: values
        for name, values in run.history.items()
        if name not in _UNPLOTTED and np.isfinite(values).any()
    }
    if not columns:
        return None
    losses = [name for name in columns if "loss" in name.lower()]
    others = [name for name in columns if name not in losses]
    panels = [(title, names) for title, names in (("loss", losses), ("validation", others)) if names]
    epochs = run.history["epoch"]
    with drawn(path, 1, len(panels), 5.2 * len(panels), 4.0) as axes:
        for axis, (title, names) in zip(axes[0], panels, strict=True):
            for name in names:
                known = np.isfinite(columns[name])
                axis.plot(epochs[known], columns[name][known], marker="o", markersize=2.5, lw=1.2, label=name)
            axis.set_xlabel("epoch")
            axis.set_title(f"{run_label(run)}: {title}", fontsize=9)
            if len(epochs) == 1:
                axis.set_xlim(epochs[0] - 1, epochs[0] + 1)
            axis.xaxis.get_major_locator().set_params(integer=True)
            # Below the axes: curves of validation go everywhere.
            axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
            if title == "loss":
                axis.set_ylim(bottom=0)
    return path


def confusion_figure(run: Run, path: Path, name: str = MAIN) -> Path | None:
    """Draw the confusion matrix of an evaluation: counts, shaded by share of the true class."""
    if name not in run.predictions:
        return None
    predictions, names = run.predictions[name], run.info.class_names
    matrix = confusion_matrix(predictions.true, predictions.predicted, len(names))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    with drawn(path, 1, 1, 4.6, 4.2) as axes:
        axis = axes[0, 0]
        shown = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            axis.text(
                column, row, f"{count:,}\n{100 * share[row, column]:.1f} %", ha="center", va="center",
                color="white" if share[row, column] > 0.55 else "black", fontsize=9,
            )  # fmt: skip
        axis.set_xticks(range(len(names)), names, fontsize=8)
        axis.set_yticks(range(len(names)), names, fontsize=8, rotation=90, va="center")
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        axis.set_title(f"{run_label(run)}\n{_dataset(run, name)}", fontsize=9)
        axis.figure.colorbar(shown, ax=axis, shrink=0.8, label="share of the true class")
    return path


def reliability_figure(run: Run, path: Path) -> Path | None:
    """Draw reliability before and, with validation predictions, after temperature scaling."""
    if MAIN not in run.predictions:
        return None
    test, validation = run.predictions[MAIN], run.predictions.get(VALIDATION)
    panels = [("as trained", 1.0)]
    if validation is not None:
        temperature = fit_temperature(validation.logits, validation.true)
        panels.append((f"temperature {temperature:.2f} from validation", temperature))
    with drawn(path, 1, len(panels), 4.2 * len(panels), 4.2) as axes:
        for axis, (title, temperature) in zip(axes[0], panels, strict=True):
            diagram = reliability(probabilities(test.logits, temperature), test.true)
            _reliability_panel(axis, diagram, f"{run_label(run)}\n{title}")
    return path


def distribution_figure(lesions: Sequence[SliceLesions], path: Path, title: str = "") -> Path | None:
    """Draw Figure 2: (a) lesions on a slice, (b) their share of the slice, by lesion class."""
    if not lesions:
        return None
    with drawn(path, 1, 2, 9.5, 3.8) as axes:
        for axis, what in zip(axes[0], ("instances", "area"), strict=True):
            for place, lesion_class in enumerate(LesionClass):
                chosen = [one for one in lesions if one.lesion_class is lesion_class]
                _histogram(axis, chosen, what, place, LESION_COLOURS[int(lesion_class)], lesion_class.label)
            axis.set_ylabel("slices")
            axis.yaxis.get_major_locator().set_params(integer=True)
            axis.legend(fontsize=8)
        axes[0, 0].set_xlabel("lesions of a class on a slice")
        axes[0, 1].set_xlabel("share of the slice that they cover, %")
        axes[0, 0].set_title(f"(a) instances {title}".rstrip(), fontsize=9)
        axes[0, 1].set_title(f"(b) area of slices with such a lesion {title}".rstrip(), fontsize=9)
    return path


def _histogram(
    axis: Any, chosen: Sequence[SliceLesions], what: str, place: int, colour: str, label: str
) -> None:
    width = 0.4
    if what == "instances":
        counts = np.bincount([min(one.instances, _MOST_INSTANCES) for one in chosen])
        axis.bar(np.arange(len(counts)) + (place - 0.5) * width, counts, width, color=colour, label=label)
        ticks = list(range(0, _MOST_INSTANCES + 1, 3))
        axis.set_xticks(ticks, [*map(str, ticks[:-1]), f"{ticks[-1]} or more"])
        return
    areas = 100 * np.array([one.area for one in chosen if one.instances])
    if not areas.size:
        return
    edges = np.linspace(0, max(float(np.percentile(areas, 99)), 1e-3), 21)
    axis.hist(
        np.minimum(areas, edges[-1]), edges, histtype="stepfilled", alpha=0.55, color=colour,
        label=f"{label}, median {np.median(areas):.2f} %",
    )  # fmt: skip


def _reliability_panel(axis: Any, diagram: Reliability, title: str) -> None:
    axis.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--", zorder=0)
    filled = diagram.count > 0
    width = np.diff(diagram.edges)
    axis.bar(
        diagram.edges[:-1][filled], diagram.accuracy[filled], width[filled], align="edge", alpha=0.35,
        color=CLASS_COLOURS[0], edgecolor=CLASS_COLOURS[0], lw=0.6,
    )  # fmt: skip
    axis.plot(diagram.confidence[filled], diagram.accuracy[filled], "o", color=CLASS_COLOURS[2], ms=4)
    for left, count in zip(diagram.edges[:-1][filled], diagram.count[filled], strict=True):
        axis.text(left + width[0] / 2, 0.012, f"{count:,}", fontsize=5.5, ha="center")
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence (number of items in each bin)", aspect="equal")
    axis.set_ylabel("share right (dots: at the mean confidence of the bin)")
    axis.set_title(f"{title}; ECE {diagram.ece:.3f}", fontsize=8)


def _dataset(run: Run, name: str) -> str:
    evaluation = run.info.evaluations.get(name)
    return name if evaluation is None else f"{evaluation.dataset} ({evaluation.source})"
