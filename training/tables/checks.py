"""What the paper does not ask: scans and patients, calibration, prevalence, robustness, shortcuts.

Roberts et al. (2021) name these gaps in nearly all published models of COVID-19.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.changes import change_in
from covid_ct_mask_net.training.levels import LEVELS, answers
from covid_ct_mask_net.training.metrics.bootstrap import Interval, clustered_interval
from covid_ct_mask_net.training.metrics.calibration import (
    brier_score,
    fit_temperature,
    probabilities,
    reliability,
)
from covid_ct_mask_net.training.metrics.classification import confusion_matrix, predictive_values
from covid_ct_mask_net.training.predictions import MAIN, Predictions
from covid_ct_mask_net.training.runs import Run
from covid_ct_mask_net.training.tables.measured import dataset_of, internal, measure, run_label
from covid_ct_mask_net.training.tables.table import (
    MISSING,
    Table,
    number,
    percent,
    percent_interval,
)

VALIDATION = "validation"
# Names of evaluations under changed images begin so (`perturbations`).
ROBUSTNESS, CONTROL = "robustness-", "control-"
_REPLICATES = 500
_NAMED = 3


def levels_table(runs: Sequence[Run]) -> Table:
    """Return accuracy by slice, by scan and by patient: the mean of a scan's probabilities decides."""
    rows: list[tuple[str, ...]] = []
    left_out: list[str] = []
    for run in _tested(runs):
        for level in LEVELS:
            found = answers(run.predictions[MAIN], level)
            if found.left_out:
                names = ", ".join(found.left_out[:_NAMED]) + (" ..." if len(found.left_out) > _NAMED else "")
                left_out.append(
                    f"{run_label(run)}: {len(found.left_out):,} {level} show two diseases and are left out "
                    f"({names})."
                )
            if not found.count:
                rows.append((run_label(run), level, "0", *[MISSING] * 3))
                continue
            one = measure(run, MAIN, level)
            rows.append(
                (
                    run_label(run), level, f"{one.count:,}", percent_interval(one.intervals.accuracy),
                    percent_interval(one.intervals.weighted_f1),
                    *(percent_interval(s) for s in one.intervals.sensitivity[-1:]),
                )
            )  # fmt: skip
    notes = (
        "A scan is of the class that its collection states, else of the disease that any of its slices "
        "shows; a patient of the disease of any of the scans.",
        "Slices of COVIDx-CT were chosen to show lesions, so slice accuracy overstates what whole scans "
        "would give; triage of volumes looks at all lung slices.",
        "The test list of COVIDx-CT v1 has 483 scans (104 Control, 195 Common Pneumonia, 184 COVID-19) of "
        "293 patients.",
    )
    columns = ("run", "level", "count", "accuracy", "weighted F1", "COVID-19 sensitivity")
    return Table(
        "levels", "Slices, scans and patients", columns, tuple(rows), (*notes, *left_out, *_none(rows))
    )


def calibration_table(runs: Sequence[Run]) -> Table:
    """Return ECE and Brier score before and after a temperature fitted on validation slices."""
    rows = []
    for run in _tested(runs):
        test, validation = run.predictions[MAIN], run.predictions.get(VALIDATION)
        rows.append((run_label(run), "as trained", "1.000", *_calibration(test, 1.0)))
        if validation is None:
            rows.append((run_label(run), "no validation predictions", MISSING, MISSING, MISSING, MISSING))
        else:
            temperature = fit_temperature(validation.logits, validation.true)
            rows.append(
                (
                    run_label(run),
                    "temperature from validation",
                    number(temperature),
                    *_calibration(test, temperature),
                )
            )
    columns = ("run", "probabilities", "temperature", "ECE", "Brier score", "mean confidence, %")
    notes = ("A temperature changes no class; it is fitted on validation slices, never on those tested.",)
    return Table("calibration", "Calibration", columns, tuple(rows), notes + _none(rows))


def demographics_table(runs: Sequence[Run]) -> Table:
    """Return who was evaluated, as the collections' own tables tell it; "not available" where they do not."""
    rows = []
    for run in _tested(runs):
        found = run.metrics.get(MAIN, {}).get("demographics", "not available")
        if not isinstance(found, dict):
            rows.append((run_label(run), "not available", *[MISSING] * 2))
            continue
        age = found.get("age")
        known = found.get("patients", {})
        counts = [
            f"{name}: " + ", ".join(f"{value} {count}" for value, count in values.items())
            for name, values in found.items()
            if name not in ("age", "patients") and isinstance(values, dict)
        ]
        rows.append(
            (
                run_label(run), f"{known.get('with entry', 0)} with, {known.get('without entry', 0)} without",
                MISSING if age is None else f"{age['median']:g} ({age['lowest']:g}–{age['highest']:g})",
                "; ".join(counts) or MISSING,
            )
        )  # fmt: skip
    columns = ("run", "patients with an entry", "age, median and range", "other")
    return Table("demographics", "Patients of the test slices", columns, tuple(rows), _none(rows))


def prevalence_table(runs: Sequence[Run], prevalence: Sequence[float] | None) -> Table:
    """Return PPV and NPV as measured and at a given prevalence of the classes.

    Parameters
    ----------
    runs : sequence of Run
    prevalence : sequence of float, optional
        One number a class; without it only the measured values are shown.
    """
    rows = []
    for run in _tested(runs):
        predictions, names = run.predictions[MAIN], run.info.class_names
        matrix = confusion_matrix(predictions.true, predictions.predicted, len(names))
        share = matrix.sum(axis=1) / matrix.sum()
        given = [tuple(float(value) for value in share)]
        if prevalence is not None and len(prevalence) == len(names):
            given.append(tuple(prevalence))
        for place, values in enumerate(given):
            if (matrix.sum(axis=1) == 0).any():
                continue
            ppv, npv = predictive_values(matrix, values)
            for c, name in enumerate(names):
                where = "as tested" if place == 0 else "as given"
                rows.append(
                    (run_label(run), where, name, percent(values[c], 1), percent(ppv[c]), percent(npv[c]))
                )
    notes: tuple[str, ...] = (
        "44.6 % of the slices of COVIDx-CT v1's test list are Control and 20.5 % COVID-19: a PPV from them "
        "holds for no other population.",
    )
    if prevalence is None:
        notes += ("No prevalence was given (--prevalence).",)
    columns = ("run", "prevalence", "class", "prevalence, %", "PPV, %", "NPV, %")
    return Table("prevalence", "Predictive values at a prevalence", columns, tuple(rows), notes + _none(rows))


def robustness_table(runs: Sequence[Run]) -> Table:
    """Return accuracy and flip rate under changes of the image that change no diagnosis."""
    notes = (
        "Flip rate: share of slices whose class changes, against the same slices unchanged. Accuracy should "
        "stay, and the flip rate be near zero.",
    )
    return _changed(
        runs, ROBUSTNESS, "robustness", "Robustness to window, compression, rotation and spacing", notes
    )


def control_table(runs: Sequence[Run]) -> Table:
    """Return what is left of accuracy when the evidence is removed: a check for shortcuts."""
    notes = (
        "With the lungs erased a sound model cannot be right more often than by always giving the commonest "
        "class; with only the lungs, or without the border, it should lose little.",
    )
    return _changed(runs, CONTROL, "controls", "Shortcut controls", notes)


def matched(run: Run, name: str) -> tuple[Predictions, Predictions]:
    """Return the unchanged and the changed predictions of the slices that both have, in one order.

    The unchanged ones are those of the evaluation whose slices were changed (`changes.change_in`).

    Raises
    ------
    UsageError
        If there are no unchanged ones, or a changed slice is not among them.
    """
    changed = run.predictions[name]
    base = (change_in(name) or (MAIN,))[0]
    if base not in run.predictions:
        raise UsageError(
            "NOT_COMPARABLE",
            f"{run.folder.name} has {name}, but no predictions of {base}; evaluate them unchanged, too.",
        )
    main = run.predictions[base]
    place = {file: index for index, file in enumerate(main.files)}
    strange = [file for file in changed.files if file not in place]
    if strange:
        raise UsageError(
            "NOT_COMPARABLE",
            f"{strange[0]} is in {name} of {run.folder.name}, but not in its {base} predictions, so that "
            "they cannot be compared; evaluate both on the same slices.",
        )
    chosen = np.array([place[file] for file in changed.files])
    return (
        Predictions(
            tuple(main.files[i] for i in chosen), tuple(main.patients[i] for i in chosen),
            tuple(main.scans[i] for i in chosen), main.slices[chosen], main.true[chosen], main.logits[chosen],
        ),
        changed,
    )  # fmt: skip


def external_changes_table(runs: Sequence[Run]) -> Table:
    """Return robustness and controls on other collections than the one trained on."""
    title = "Robustness and controls on external collections"
    return _changed(runs, "", "external-changes", title, (), wanted="external")


def _changed(
    runs: Sequence[Run],
    prefix: str,
    name: str,
    title: str,
    notes: tuple[str, ...],
    wanted: str = "internal",
) -> Table:
    rows = []
    for run in (one for one in runs if one.info.kind in ("classifier", "binary")):
        for evaluation in sorted(run.predictions):
            base, change = change_in(evaluation) or ("", "")
            # The source of the unchanged slices counts, with which the changed ones are compared.
            described = run.info.evaluations.get(base if base in run.info.evaluations else evaluation)
            source = "" if described is None else described.source
            if not base or not change.startswith(prefix) or source != wanted:
                continue
            try:
                before, after = matched(run, evaluation)
            except UsageError as error:
                # One evaluation on other slices is no reason to have no tables at all.
                notes += (error.sentence,)
                continue
            patients = after.patients
            flipped, right = before.predicted != after.predicted, after.predicted == after.true
            was_right = before.predicted == before.true
            flips = _share(flipped, patients)
            accuracy = _share(right, patients)
            rows.append(
                (
                    run_label(run), dataset_of(run, base), change.removeprefix(prefix),
                    percent_interval(flips), percent_interval(accuracy),
                    f"{100 * (right.mean() - was_right.mean()):+.2f}",
                    percent(float((after.predicted == len(run.info.class_names) - 1).mean()), 1),
                    f"{len(after.true):,}",
                )
            )  # fmt: skip
    columns = (
        "run",
        "data set",
        "change",
        "flip rate, %",
        "accuracy, %",
        "difference, points",
        "called COVID-19, %",
        "slices",
    )
    return Table(name, title, columns, tuple(rows), notes + _none(rows))


def _share(chosen: NDArray[np.bool_], patients: Sequence[str]) -> Interval:
    return clustered_interval(
        lambda items: float(chosen[items].mean()), patients, replicates=_REPLICATES, proportion=True
    )


def _tested(runs: Sequence[Run]) -> list[Run]:
    """Return the runs whose main evaluation is internal; external ones have a table of their own."""
    return [
        run
        for run in runs
        if run.info.kind in ("classifier", "binary") and MAIN in run.predictions and internal(run, MAIN)
    ]


def _calibration(test: Predictions, temperature: float) -> tuple[str, str, str]:
    chances = probabilities(test.logits, temperature)
    diagram = reliability(chances, test.true)
    return (
        number(diagram.ece), number(brier_score(chances, test.true)),
        percent(float(chances.max(axis=1).mean())),
    )  # fmt: skip


def _none(rows: Sequence[object]) -> tuple[str, ...]:
    return () if rows else ("No run has the predictions that this needs.",)
