"""Tables of slice classes: 4 (COVIDx-CT), 5 (comparison), 7 (left out), 8 and 9 (iCTCF)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from covid_ct_mask_net.labels import SLICE_CLASS_NAMES
from covid_ct_mask_net.training.changes import change_in
from covid_ct_mask_net.training.datasets.ictcf import BINARY_CLASS_NAMES
from covid_ct_mask_net.training.metrics.bootstrap import Interval
from covid_ct_mask_net.training.metrics.classification import figures
from covid_ct_mask_net.training.runs import MODES, Run
from covid_ct_mask_net.training.tables import published
from covid_ct_mask_net.training.tables.literature import CITATIONS, NOT_COMPARABLE
from covid_ct_mask_net.training.tables.measured import (
    Measured,
    internal,
    measure,
    not_of_the_paper,
    of_mode,
    run_label,
    variant,
    with_predictions,
)
from covid_ct_mask_net.training.tables.published import MODE_NAMES, PublishedResult, Reference, Variant
from covid_ct_mask_net.training.tables.table import (
    MISSING,
    Table,
    compared,
    percent,
    percent_interval,
)

INTERVALS = (
    "Figures are percentages with 95 % intervals from resampling patients (2,000 resamples); PPV stands in "
    "brackets. *differs* marks a published figure that lies outside our interval."
)
NOT_RUN = "not run"


def table_4(runs: Sequence[Run]) -> Table:
    """Return Table 4: COVIDx-CT v1 test by what was trained."""
    ours = with_predictions(runs, "test", "classifier")
    rows: list[tuple[str, ...]] = []
    notes = [INTERVALS, *published.TABLE_4_NOTES]
    for mode in published.TABLE_4:
        rows.append(_published_row(MODE_NAMES[mode], "paper", published.TABLE_4[mode], SLICE_CLASS_NAMES))
        if mode == "s_bn":
            rows += _matrix_rows()
        found = [measure(run, "test") for run in of_mode(ours, mode)]
        rows += _own_rows(MODE_NAMES[mode], found, published.SLICE_CLASSES, SLICE_CLASS_NAMES)
        notes += _size_notes(found, published.TEST_SLICES) + _reference_notes(found, published.SLICE_CLASSES)
    for mode, others in _further_modes(ours, "classifier"):
        found = [measure(run, "test") for run in others]
        rows += _own_rows(MODE_NAMES[mode], found, published.SLICE_CLASSES, SLICE_CLASS_NAMES)
        notes += [not_of_the_paper(mode), *_size_notes(found, published.TEST_SLICES)]
    return Table(
        "table-4",
        "Table 4: slice classes on the COVIDx-CT v1 test list",
        _columns(SLICE_CLASS_NAMES),
        tuple(rows),
        tuple(notes),
    )


def table_5(runs: Sequence[Run]) -> Table:
    """Return Table 5: ours, baselines of the same harness, and the paper's literature rows as citations."""
    rows = []
    notes = [
        "Rows of this project come from one harness: same splits, same epochs, same metrics.",
        INTERVALS,
        NOT_COMPARABLE,
    ]
    ours = with_predictions(runs, "test", "classifier")
    baselines = with_predictions(runs, "test", "classifier", baselines=True)
    hashes = {run.info.evaluations["test"].data_hash for run in ours}
    for run in [*ours, *baselines]:
        one = measure(run, "test")
        figures_of = one.intervals
        rows.append(
            (
                run_label(run), "this project", f"{one.count:,} slices, {figures_of.patients:,} patients",
                f"accuracy {percent_interval(figures_of.accuracy)}; "
                f"COVID-19 {percent_interval(figures_of.sensitivity[-1])}; "
                f"weighted F1 {percent_interval(figures_of.weighted_f1)}",
                "",
            )
        )  # fmt: skip
        if run in baselines and ours and one.evaluation.data_hash not in hashes:
            notes.append(f"{run_label(run)} was tested on other slices than ours: not a comparison.")
    if not ours:
        notes.append("No classifier of this project was evaluated on test slices.")
    if not baselines:
        notes.append("No baseline was run: resnet50, resnet18, densenet121 and light-cnn are missing.")
    paper = published.TABLE_4["s_bn"]
    rows.append(
        (
            "COVID-CT-Mask-Net, S + batch normalisation", "the paper", f"{published.TEST_SLICES:,} slices",
            f"accuracy {percent(paper.accuracy)}; COVID-19 {percent(paper.sensitivity[-1])}; "
            f"weighted F1 {percent(paper.weighted_f1)}",
            "as printed",
        )
    )  # fmt: skip
    rows += [(one.name, one.source, one.test, one.stated, one.caution) for one in CITATIONS]
    columns = ("model", "source", "tested on", "figures", "caution")
    return Table("table-5", "Table 5: comparison", columns, tuple(rows), tuple(notes))


def table_7(runs: Sequence[Run]) -> Table:
    """Return Table 7: left-out training slices, in the paper's reading and without the training patients."""
    ours = with_predictions(runs, "left_out", "classifier")
    notes = [
        INTERVALS,
        "The paper's 58,782 left-out slices are not an independent test. Counted from the author's published "
        "lists: 95.0 % of them are of the 608 patients of the author's sample of 3,000 slices, 89.7 % of the "
        "same scans; only 2,962 slices of 256 patients (181 Control, 1,687 Common Pneumonia, 1,094 COVID-19) "
        "are of other patients. Another sample leaves other slices.",
        f"The paper prints {percent(published.TABLE_7['s_bn'].accuracy)} % overall for S + batch "
        "normalisation; its own class sensitivities, not repeated here, give "
        f"{percent(published.TABLE_7_RECOMPUTED_ACCURACY)} %.",
    ]
    rows: list[tuple[str, ...]] = []
    for mode in published.TABLE_4:
        if mode in published.TABLE_7:
            printed = _published_row(MODE_NAMES[mode], "paper", published.TABLE_7[mode], SLICE_CLASS_NAMES)
            rows.append((*printed[:-2], f"{published.LEFT_OUT_SLICES:,}", MISSING, "95.0"))
        for run in of_mode(ours, mode):
            rows += _left_out_rows(run, notes)
        if not of_mode(ours, mode):
            rows.append((MODE_NAMES[mode], NOT_RUN, *[MISSING] * 8))
    for mode, others in _further_modes(ours, "classifier"):
        notes.append(not_of_the_paper(mode))
        for run in others:
            rows += _left_out_rows(run, notes)
    columns = (*_columns(SLICE_CLASS_NAMES), "of training patients, %")
    return Table(
        "table-7", "Table 7: slices left out of the training sample", columns, tuple(rows), tuple(notes)
    )


def table_8(runs: Sequence[Run]) -> Table:
    """Return Table 8: sizes of the iCTCF split."""
    negative, covid = (published.ICTCF_TEST[name] for name in BINARY_CLASS_NAMES)
    rows: list[tuple[str, ...]] = [
        ("paper", "test", f"{negative:,}", f"{covid:,}", f"{negative + covid:,}"),
        ("paper", "training and validation", "300", "300", "600"),
    ]
    notes = []
    ours = with_predictions(runs, "test", "binary")
    for run in ours:
        for name, predictions in sorted(run.predictions.items()):
            # Changed slices are no split, and those of another collection none of iCTCF.
            if change_in(name) or not internal(run, name):
                continue
            counts = np.bincount(predictions.true, minlength=2)
            rows.append((run_label(run), name, *(f"{n:,}" for n in counts), f"{counts.sum():,}"))
    if not ours:
        notes.append("No two-class run was evaluated; only the paper's numbers are shown.")
    return Table(
        "table-8",
        "Table 8: iCTCF-CT split",
        ("source", "split", *BINARY_CLASS_NAMES, "slices"),
        tuple(rows),
        tuple(notes),
    )


def table_9(runs: Sequence[Run]) -> Table:
    """Return Table 9: two classes after ten epochs of fine-tuning on iCTCF-CT."""
    ours = with_predictions(runs, "test", "binary")
    rows: list[tuple[str, ...]] = []
    notes = [
        INTERVALS,
        "The paper's third figure is taken as the class-weighted F1: its sensitivities give 83.1, 92.3 and "
        "88.7 %.",
        "Fine-tuning makes this an internal test of the collection that was fine-tuned on.",
    ]
    for mode, paper in published.TABLE_9.items():
        rows.append(_published_row(MODE_NAMES[mode], "paper", paper, BINARY_CLASS_NAMES))
        found = [measure(run, "test") for run in of_mode(ours, mode)]
        rows += _own_rows(MODE_NAMES[mode], found, published.BINARY_CLASSES, BINARY_CLASS_NAMES)
        notes += _size_notes(found, sum(published.ICTCF_TEST.values()))
        notes += _reference_notes(found, published.BINARY_CLASSES)
    for mode, others in _further_modes(ours, "binary"):
        found = [measure(run, "test") for run in others]
        rows += _own_rows(MODE_NAMES[mode], found, published.BINARY_CLASSES, BINARY_CLASS_NAMES)
        notes += [not_of_the_paper(mode), *_size_notes(found, sum(published.ICTCF_TEST.values()))]
    return Table(
        "table-9",
        "Table 9: slice classes on the iCTCF-CT test slices",
        _columns(BINARY_CLASS_NAMES),
        tuple(rows),
        tuple(notes),
    )


def _further_modes(runs: Sequence[Run], kind: str) -> list[tuple[str, list[Run]]]:
    """Return the modes that the paper does not have, each with its runs, where there are any."""
    further = [mode for mode in MODES[kind] if mode not in published.TABLE_4]
    return [(mode, found) for mode in further if (found := of_mode(runs, mode))]


def _columns(names: Sequence[str]) -> tuple[str, ...]:
    return ("trained", "source", *(f"{n}: sensitivity [PPV]" for n in names), "accuracy", "weighted F1",
            "slices", "patients")  # fmt: skip


def _published_row(what: str, source: str, result: PublishedResult, names: Sequence[str]) -> tuple[str, ...]:
    classes = [percent(value) for value in result.sensitivity]
    return (
        what, source, *classes, percent(result.accuracy), percent(result.weighted_f1),
        f"{_published_count(names):,}", MISSING,
    )  # fmt: skip


def _published_count(names: Sequence[str]) -> int:
    return (
        published.TEST_SLICES if len(names) == len(SLICE_CLASS_NAMES) else sum(published.ICTCF_TEST.values())
    )


def _matrix_rows() -> list[tuple[str, ...]]:
    """Return rows of the original's README, which have no table in the paper."""
    matrices: Mapping[str, published.Confusion] = {
        "first README": published.README_FIRST_CONFUSION,
        "README, both lesions": published.README_CONFUSION["both"],
        "README, merged lesions": published.README_CONFUSION["merge"],
    }
    rows: list[tuple[str, ...]] = []
    for source, matrix in matrices.items():
        of = figures(matrix)
        classes = [f"{percent(s)} [{percent(p)}]" for s, p in zip(of.sensitivity, of.ppv, strict=True)]
        count = int(np.sum(matrix))
        rows.append(
            (MODE_NAMES["s_bn"], source, *classes, percent(of.accuracy), percent(of.weighted_f1),
             f"{count:,}", MISSING)
        )  # fmt: skip
    rows += [
        _published_row(MODE_NAMES[light.mode], f"README, {light.network}", result, SLICE_CLASS_NAMES)
        for light, result in published.README_LIGHT.items()
    ]
    return rows


def _own_rows(
    what: str, found: Sequence[Measured], references: Mapping[Variant, Reference], names: Sequence[str]
) -> list[tuple[str, ...]]:
    expected = _published_count(names)
    if not found:
        return [(what, NOT_RUN, *[MISSING] * (len(names) + 4))]
    rows = []
    for one in found:
        rows.append((what, one.label, *_cells(one)))
        same = one.count == expected
        reference = references.get(variant(one.run))
        result = PublishedResult((None,) * len(names)) if reference is None else reference.result
        differences = [
            compared(ours, theirs, same)
            for ours, theirs in zip(one.intervals.sensitivity, result.sensitivity, strict=True)
        ]
        to = "" if reference is None else f" to {reference.source}"
        rows.append(
            (
                what, f"{one.run.folder.name}: difference{to}, points", *differences,
                compared(one.intervals.accuracy, result.accuracy, same),
                compared(one.intervals.weighted_f1, result.weighted_f1, same), "", "",
            )
        )  # fmt: skip
    return rows


def _reference_notes(found: Sequence[Measured], references: Mapping[Variant, Reference]) -> list[str]:
    """Say which runs are compared with something else than the paper's row above them, or with nothing."""
    notes = []
    for one in found:
        network = variant(one.run).network
        reference = references.get(variant(one.run))
        if reference is None:
            notes.append(
                f"{one.label} is compared with no figure: none of {network} was published for what was "
                "trained here, and the paper's rows are of ResNet50 and both lesions."
            )
        elif reference.source != published.PAPER:
            row = f"{reference.source}'s row of {network}"
            notes.append(f"{one.label} is compared with {row}, not with the paper's.")
    return notes


def _cells(one: Measured) -> tuple[str, ...]:
    def both(sensitivity: Interval, ppv: Interval) -> str:
        return f"{percent_interval(sensitivity)} [{percent_interval(ppv)}]"

    of = one.intervals
    classes = [both(s, p) for s, p in zip(of.sensitivity, of.ppv, strict=True)]
    return (
        *classes, percent_interval(of.accuracy), percent_interval(of.weighted_f1),
        f"{one.count:,}", f"{of.patients:,}",
    )  # fmt: skip


def _left_out_rows(run: Run, notes: list[str]) -> list[tuple[str, ...]]:
    what = MODE_NAMES[run.info.mode]
    whole = measure(run, "left_out")
    trained_on = run.info.patients_trained_on
    if not trained_on:
        notes.append(
            f"{run_label(run)} does not state its training patients: overlap cannot be told. The list that "
            "it was trained on tells them (trained_list of evaluate_classifier.yaml)."
        )
        return [(what, f"{run_label(run)}, all", *_cells(whole), MISSING)]
    patients = run.predictions["left_out"].patients
    disjoint = np.array([owner not in trained_on for owner in patients])
    overlap = percent(float(1 - disjoint.mean()), 1)
    rows = [(what, f"{run_label(run)}, all (the paper's reading)", *_cells(whole), overlap)]
    if disjoint.any():
        part = measure(run, "left_out", chosen=disjoint)
        rows.append((what, f"{run_label(run)}, patient-disjoint", *_cells(part), "0.0"))
        counts = np.bincount(run.predictions["left_out"].true[disjoint], minlength=len(SLICE_CLASS_NAMES))
        by_class = ", ".join(f"{n:,} {name}" for n, name in zip(counts, SLICE_CLASS_NAMES, strict=True))
        others = len(set(patients) - trained_on)
        notes.append(
            f"{run_label(run)} was trained on {len(trained_on):,} patients; {part.count:,} of its "
            f"{whole.count:,} left-out slices, of {others:,} patients ({by_class}), are of others."
        )
    else:
        notes.append(f"{run_label(run)} has no left-out slice of a patient that it was not trained on.")
    return rows


def _size_notes(found: Sequence[Measured], expected: int) -> list[str]:
    return [
        f"{one.label} was tested on {one.count:,} slices ({one.evaluation.dataset}), not on the paper's "
        f"{expected:,}: it does not reproduce the published figures, and differences say nothing."
        for one in found
        if one.count != expected
    ]
