"""Evaluations on other collections than the one trained on, which no internal row stands beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from covid_ct_mask_net.training.changes import change_in
from covid_ct_mask_net.training.runs import Run
from covid_ct_mask_net.training.tables.classes import INTERVALS
from covid_ct_mask_net.training.tables.lesions import DEFINITIONS, evaluations, precisions
from covid_ct_mask_net.training.tables.measured import measure, run_label
from covid_ct_mask_net.training.tables.table import MISSING, Table, percent_interval

_COLUMNS = (
    "run", "data set", "sensitivity", "accuracy", "weighted F1", "AP@0.5, AP@0.75, AP@[0.5:0.95]", "slices",
    "patients",
)  # fmt: skip


def external_table(runs: Sequence[Run]) -> Table:
    """Return external evaluations of classifiers and detectors."""
    rows = [row for run in runs for row in (*_classes(run), *_lesions(run))]
    notes = [INTERVALS] if rows else ["No run was evaluated on a collection that it was not trained on."]
    title = "External evaluations (never mixed with internal ones)"
    return Table("external", title, _COLUMNS, tuple(rows), tuple(notes))


def _external(run: Run, name: str) -> bool:
    return name in run.info.evaluations and run.info.evaluations[name].source == "external"


def _named(run: Run, name: str) -> tuple[str, str]:
    return run_label(run), f"{run.info.evaluations[name].dataset} ({name})"


def _classes(run: Run) -> Iterator[tuple[str, ...]]:
    # Changed slices have a table of their own (`checks.external_changes_table`).
    for name in sorted(one for one in run.predictions if _external(run, one) and not change_in(one)):
        found = measure(run, name)
        of = found.intervals
        classes = "; ".join(
            f"{label} {percent_interval(sensitivity)}"
            for label, sensitivity in zip(run.info.class_names, of.sensitivity, strict=True)
        )
        yield (
            *_named(run, name), classes, percent_interval(of.accuracy), percent_interval(of.weighted_f1),
            MISSING, f"{found.count:,}", f"{of.patients:,}",
        )  # fmt: skip


def _lesions(run: Run) -> Iterator[tuple[str, ...]]:
    for name, figures in sorted(evaluations(run).items()):
        if not _external(run, name):
            continue
        found = "; ".join(
            f"{definition}: {', '.join(precisions(figures, key))}" for key, definition in DEFINITIONS.items()
        )
        patients = figures.get("patients")
        yield (
            *_named(run, name), *[MISSING] * 3, found, f"{figures['slices']:,}",
            MISSING if patients is None else f"{patients:,}",
        )  # fmt: skip
