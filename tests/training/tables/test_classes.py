"""Tables 4, 5, 7, 8, 9: ours beside the paper's, with nothing mixed and nothing hidden."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.run_folders import add_predictions, logits_for, make_classifier_run, records
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES
from covid_ct_mask_net.training.predictions import write_predictions
from covid_ct_mask_net.training.runs import Evaluation, Run, RunInfo, read_run, write_info
from covid_ct_mask_net.training.tables import classes, published
from covid_ct_mask_net.training.tables.table import Table


def _row(table: Table, *starts: str) -> tuple[str, ...]:
    found = [row for row in table.rows if all(c.startswith(s) for c, s in zip(row, starts, strict=False))]
    assert len(found) == 1, (starts, table.rows)
    return found[0]


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    return [
        read_run(make_classifier_run(tmp_path / "ours", "s_bn")),
        read_run(make_classifier_run(tmp_path / "whole-slice", "full", model="resnet50")),
        read_run(make_classifier_run(tmp_path / "fine-tuned", "full", binary=True)),
    ]


def _published_run(folder: Path) -> Run:
    """A run whose predictions have exactly the confusion matrix of the original's README."""
    matrix = published.README_CONFUSION["merge"]
    rows, logits = [], []
    for true in range(3):
        guesses = np.repeat(np.arange(3), matrix[true])
        for index, guess in enumerate(guesses):
            patient = str(100 * true + index % 97)
            rows.append(
                {"file": f"{true}_{patient}_1_{index:04d}.png", "patient": patient, "scan": "1",
                 "slice": index, "slice_class": true}
            )  # fmt: skip
            logits.append(np.eye(3)[guess])
    info = RunInfo(kind="classifier", mode="s_bn", evaluations={"test": Evaluation("COVIDx-CT v1 test")})
    write_info(folder, info)
    write_predictions(folder, rows, logits)
    return read_run(folder)


def test_table_4_gives_the_published_figures_for_the_published_predictions(tmp_path: Path) -> None:
    table = classes.table_4([_published_run(tmp_path / "readme")])
    ours = _row(table, "S + batch normalisation", "readme: covid")
    assert ours[2].startswith("97.74 (")
    assert ours[5].startswith("96.33 (")
    assert ours[6].startswith("96.34 (")
    assert ours[7:] == ("21,191", "291")
    difference = _row(table, "S + batch normalisation", "readme: difference to the paper, points")
    assert difference[5] == "+4.67 *differs*"
    assert not [note for note in table.notes if "does not reproduce" in note]


def test_table_4_names_what_is_missing_misprinted_and_not_comparable(runs: list[Run]) -> None:
    table = classes.table_4(runs)
    assert table.columns[2:5] == tuple(f"{name}: sensitivity [PPV]" for name in SLICE_CLASS_NAMES)
    assert _row(table, "only S", "paper")[2:7] == ("82.37", "71.13", "76.30", "77.20", "77.30")
    assert _row(table, "only S", "not run")[2:] == ("–",) * 7
    assert "(other slices)" in _row(table, "S + batch normalisation", "ours: difference")[2]
    assert any("91.10 is a misprint" in note for note in table.notes)
    assert any("on 60 slices" in note and "does not reproduce" in note for note in table.notes)
    # The baseline is not a mode of the network.
    assert not [row for row in table.rows if "whole-slice" in row[1]]


def _light(run: Run, truncation: int = 1, **changes: Any) -> Run:
    settings = {"detector": {"backbone": "resnet18", "truncation": truncation}}
    return dataclasses.replace(run, info=dataclasses.replace(run.info, settings=settings, **changes))


def test_light_models_are_not_compared_with_the_papers_large_one(tmp_path: Path) -> None:
    run = _published_run(tmp_path / "readme")
    # README: 93.95 % for ResNet18 without its last stage, on merged lesions.
    table = classes.table_4([_light(run, mask_type="merge")])
    difference = _row(table, "S + batch normalisation", "readme: difference to the README, points")
    assert difference[5] == "+2.38 *differs*"
    assert any("the README's row of resnet18 truncated by 1, merged lesions" in n for n in table.notes)
    assert _row(table, "S + batch normalisation", "README, resnet34 truncated by 1")[5] == "92.89"


def test_where_nothing_was_published_there_is_no_difference(tmp_path: Path) -> None:
    run = _published_run(tmp_path / "readme")
    ggo = dataclasses.replace(run, info=dataclasses.replace(run.info, mask_type="ggo"))
    unpublished = (
        _light(run, 2, mask_type="merge"), _light(run), _light(run, mask_type="merge", mode="full"), ggo,
    )  # fmt: skip
    for one in unpublished:
        table = classes.table_4([one])
        difference = _row(table, published.MODE_NAMES[one.info.mode], "readme: difference, points")
        assert difference[2:7] == ("–",) * 5
        assert any("is compared with no figure" in note for note in table.notes)


def test_merged_lesions_are_compared_with_the_readmes_figures_of_them(tmp_path: Path) -> None:
    run = _published_run(tmp_path / "readme")
    merged = dataclasses.replace(run, info=dataclasses.replace(run.info, mask_type="merge"))
    table = classes.table_4([merged])
    difference = _row(table, "S + batch normalisation", "readme: difference to the README, points")
    assert difference[2:7] == ("+0.00",) * 5
    assert not [note for note in table.notes if "compared with no figure" in note]


def test_two_class_runs_are_compared_with_the_papers_network_alone(runs: list[Run]) -> None:
    binary = runs[2]
    difference = _row(classes.table_9([binary]), "full model", "fine-tuned: difference to the paper, points")
    assert all("(other slices)" in cell for cell in (*difference[2:4], difference[5]))
    table = classes.table_9([_light(binary, mask_type="merge")])
    assert _row(table, "full model", "fine-tuned: difference, points")[2:6] == ("–",) * 4
    assert any("is compared with no figure" in note for note in table.notes)
    s_bn = _light(binary, mask_type="merge", mode="s_bn")
    difference = _row(classes.table_9([s_bn]), "S + batch normalisation", "fine-tuned: difference, points")
    assert difference[2] == "–"


def test_table_5_has_baselines_and_citations_apart(runs: list[Run]) -> None:
    table = classes.table_5(runs)
    sources = {row[0]: row[1] for row in table.rows}
    assert (
        sources["whole-slice: resnet50"] == sources["ours: covid-ct-mask-net s_bn (both)"] == "this project"
    )
    assert "Radiology" in sources["COVNet"]
    assert any("not comparable" in note for note in table.notes)
    empty = classes.table_5([])
    assert any("No baseline was run" in note for note in empty.notes)
    assert any("No classifier" in note for note in empty.notes)


def test_table_5_says_when_a_baseline_saw_other_slices(tmp_path: Path) -> None:
    runs = []
    for name, model, digest in (("ours", "covid-ct-mask-net", "a"), ("theirs", "resnet18", "b")):
        folder = make_classifier_run(tmp_path / name, "full", model=model)
        info = read_run(folder).info
        evaluations = {"test": Evaluation("COVIDx-CT v1 test", data_hash=digest)}
        write_info(folder, dataclasses.replace(info, evaluations=evaluations))
        runs.append(read_run(folder))
    assert any("theirs: resnet18 was tested on other slices" in n for n in classes.table_5(runs).notes)


def test_table_7_has_both_readings(runs: list[Run]) -> None:
    table = classes.table_7(runs)
    everything = _row(table, "S + batch normalisation", "ours: covid-ct-mask-net s_bn (both), all")
    disjoint = _row(table, "S + batch normalisation", "ours: covid-ct-mask-net s_bn (both), patient-disjoint")
    # 3 of 12 patients were trained on, 5 slices each.
    assert everything[-3:] == ("60", "12", "25.0")
    assert disjoint[-3:] == ("45", "9", "0.0")
    assert _row(table, "S + batch normalisation", "paper")[-3:] == ("58,782", "–", "95.0")
    (published_lists,) = [note for note in table.notes if "not an independent test" in note]
    assert "Counted from the author's published lists" in published_lists
    # What was run has a count of its own.
    assert any(
        "ours: covid-ct-mask-net s_bn (both) was trained on 3 patients; 45 of its 60 left-out slices, of "
        "9 patients (15 Control, 15 Common Pneumonia, 15 COVID-19), are of others." in note
        for note in table.notes
    )


def test_table_7_without_training_patients_says_so(runs: list[Run]) -> None:
    info = dataclasses.replace(runs[0].info, training_patients=())
    table = classes.table_7([dataclasses.replace(runs[0], info=info)])
    assert any("overlap cannot be told" in note for note in table.notes)
    everyone = tuple(f"{patient % 3}/{patient}" for patient in range(12))
    info = dataclasses.replace(runs[0].info, training_patients=everyone)
    table = classes.table_7([dataclasses.replace(runs[0], info=info)])
    assert any("no left-out slice of a patient" in note for note in table.notes)
    assert _row(table, "S + batch normalisation", "ours")[-1] == "100.0"
    # Whatever the class of the slices that were trained on, a patient is that patient.
    otherwise = tuple(f"{(patient + 1) % 3}/{patient}" for patient in range(12))
    info = dataclasses.replace(runs[0].info, training_patients=otherwise)
    table = classes.table_7([dataclasses.replace(runs[0], info=info)])
    assert _row(table, "S + batch normalisation", "ours")[-1] == "100.0"


def test_modes_that_the_paper_does_not_have_stand_below_its_rows(tmp_path: Path) -> None:
    ours = read_run(make_classifier_run(tmp_path / "boxes", "s_boxes"))
    binary = read_run(make_classifier_run(tmp_path / "fine-tuned", "s_boxes", binary=True))
    for table, name in (
        (classes.table_4([ours]), "boxes"),
        (classes.table_7([ours]), "boxes"),
        (classes.table_9([binary]), "fine-tuned"),
    ):
        last = [row[:2] for row in table.rows][-2:]
        assert all(what == "S + box head" and label.startswith(name) for what, label in last), table.name
        assert any("The paper does not have *S + box head*" in note for note in table.notes)
    assert not [row for row in classes.table_4([]).rows if row[0] == "S + box head"]


def test_tables_8_and_9_are_of_two_classes(runs: list[Run]) -> None:
    sizes = classes.table_8(runs)
    assert ("paper", "test", "9,275", "3,701", "12,976") in sizes.rows
    assert _row(sizes, "fine-tuned", "test")[2:] == ("30", "30", "60")
    table = classes.table_9(runs)
    assert _row(table, "full model", "paper")[2:6] == ("87.27", "91.31", "–", "88.91")
    assert _row(table, "full model", "fine-tuned: covid")[6] == "60"
    assert any("No two-class run" in note for note in classes.table_8([]).notes)


def test_external_evaluations_are_in_no_table_of_internal_ones(runs: list[Run]) -> None:
    def elsewhere(run: Run) -> Run:
        evaluations = dict.fromkeys(run.info.evaluations, Evaluation("another hospital", "external"))
        return dataclasses.replace(run, info=dataclasses.replace(run.info, evaluations=evaluations))

    ours, baseline, binary = map(elsewhere, runs)
    assert _row(classes.table_4([ours]), "S + batch normalisation", "not run")
    assert not [row for row in classes.table_5([ours, baseline]).rows if row[1] == "this project"]
    assert _row(classes.table_7([ours]), "S + batch normalisation", "not run")
    assert [row[0] for row in classes.table_8([binary]).rows] == ["paper", "paper"]
    assert _row(classes.table_9([binary]), "full model", "not run")


def test_table_8_has_splits_alone(tmp_path: Path) -> None:
    folder = make_classifier_run(tmp_path / "fine-tuned", binary=True)
    rows = records(classes=2)
    for name in ("robustness-jpeg-50", "control-only-lungs"):
        add_predictions(folder, rows, logits_for(rows, 2), name)
    add_predictions(folder, rows, logits_for(rows, 2), "elsewhere", "external")
    table = classes.table_8([read_run(folder)])
    assert [row[1] for row in table.rows[2:]] == ["left_out", "test", "validation"]
