"""What reviewers ask for: levels, calibration, prevalence, robustness, shortcuts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from builders.run_folders import add_predictions, logits_for, make_classifier_run, records
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.runs import Evaluation, Run, read_run, write_metrics
from covid_ct_mask_net.training.tables import checks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_classifier_run(tmp_path / "run")


def _run(folder: Path) -> Run:
    return read_run(folder)


def test_scans_and_patients_are_counted_apart_from_slices(folder: Path) -> None:
    rows = checks.levels_table([_run(folder)]).rows
    assert [row[1:3] for row in rows] == [("slices", "60"), ("scans", "12"), ("patients", "12")]


def test_temperature_comes_from_validation_and_improves_this_one(folder: Path) -> None:
    before, after = checks.calibration_table([_run(folder)]).rows
    assert before[2] == "1.000"
    assert float(after[2]) != 1
    assert float(after[3]) < float(before[3])
    (folder / "predictions-validation.csv").unlink()
    assert checks.calibration_table([_run(folder)]).rows[1][1] == "no validation predictions"


def test_patients_are_described_where_the_collection_tells(folder: Path) -> None:
    (row,) = checks.demographics_table([_run(folder)]).rows
    assert row[1:] == ("not available", "–", "–")
    known = {
        "patients": {"with entry": 11, "without entry": 1},
        "age": {"median": 52.5, "lowest": 20.0, "highest": 81.0, "known": 10},
        "sex": {"F": 6, "M": 5},
    }
    write_metrics(folder, {"test": {"demographics": known}})
    (row,) = checks.demographics_table([_run(folder)]).rows
    assert row[1:] == ("11 with, 1 without", "52.5 (20–81)", "sex: F 6, M 5")


def test_predictive_values_at_the_prevalence_given(folder: Path) -> None:
    rows = checks.prevalence_table([_run(folder)], [0.9, 0.07, 0.03]).rows
    tested = {row[2]: float(row[4]) for row in rows if row[1] == "as tested"}
    given = {row[2]: float(row[4]) for row in rows if row[1] == "as given"}
    assert given["Common Pneumonia"] < tested["Common Pneumonia"]
    assert any("No prevalence was given" in note for note in checks.prevalence_table([], None).notes)


def test_flip_rate_is_against_the_same_slices(folder: Path) -> None:
    rows = records()[:30]
    logits = logits_for(records())[:30]
    unchanged = np.array(logits)
    add_predictions(folder, rows, unchanged, "robustness-none")
    turned = unchanged.copy()
    turned[:6] = np.roll(turned[:6], 1, axis=1)
    # In another order, as a shuffled evaluation would write them.
    order = np.random.default_rng(0).permutation(30)
    add_predictions(folder, [rows[i] for i in order], turned[order], "robustness-turned")
    none, some = checks.robustness_table([_run(folder)]).rows
    assert none[1:4] == ("COVIDx-CT v1 test (internal)", "none", "0.00 (0.00–45.93)")
    assert none[5] == "+0.00"
    assert some[2] == "turned"
    assert some[3].startswith("20.00 (")
    assert some[-1] == "30"


def test_shortcut_controls_are_a_table_of_their_own(folder: Path) -> None:
    rows = records()
    add_predictions(folder, rows, np.tile([1.0, 0.0, 0.0], (60, 1)), "control-lungs-erased")
    (row,) = checks.control_table([_run(folder)]).rows
    assert row[2] == "lungs-erased"
    assert row[4].startswith("33.33")
    assert row[6] == "0.0"
    assert checks.robustness_table([_run(folder)]).rows == ()


def test_changed_slices_that_were_not_tested_are_said(folder: Path) -> None:
    rows = [{**records()[0], "file": "another.png"}]
    add_predictions(folder, rows, [[1.0, 0.0, 0.0]], "robustness-x")
    table = checks.robustness_table([_run(folder)])
    assert table.rows == ()
    assert any("another.png is in robustness-x of run, but not in its test" in one for one in table.notes)
    with pytest.raises(UsageError, match="cannot be compared"):
        checks.matched(_run(folder), "robustness-x")


def test_changed_slices_of_another_collection_are_compared_with_its_own(folder: Path) -> None:
    rows = records()
    add_predictions(folder, rows, logits_for(rows), "robustness-jpeg-50")
    elsewhere = [{**row, "file": f"elsewhere-{row['file']}"} for row in records(6)]
    logits = logits_for(elsewhere)
    add_predictions(folder, elsewhere, logits, "hospital-b", "external")
    turned = logits.copy()
    turned[:3] = np.roll(turned[:3], 1, axis=1)
    add_predictions(folder, elsewhere, turned, "hospital-b-robustness-jpeg-50", "external")
    (own,) = checks.robustness_table([_run(folder)]).rows
    assert (own[1], own[-1]) == ("COVIDx-CT v1 test (internal)", "60")
    (other,) = checks.external_changes_table([_run(folder)]).rows
    assert other[1:3] == ("hospital-b (external)", "robustness-jpeg-50")
    assert other[3].startswith("10.00 (")
    (folder / "predictions-hospital-b.csv").unlink()
    table = checks.external_changes_table([_run(folder)])
    assert table.rows == ()
    assert any("no predictions of hospital-b" in note for note in table.notes)


def test_scans_of_two_diseases_are_left_out_by_name(folder: Path) -> None:
    rows = records()
    rows[0]["slice_class"], rows[1]["slice_class"] = 1, 2
    add_predictions(folder, rows, logits_for(rows), "test")
    table = checks.levels_table([_run(folder)])
    assert [row[1:3] for row in table.rows] == [("slices", "60"), ("scans", "11"), ("patients", "11")]
    assert any("1 scans show two diseases and are left out (0/100)" in note for note in table.notes)
    add_predictions(folder, rows[:5], logits_for(rows[:5]), "test")
    (_, scans, _) = checks.levels_table([_run(folder)]).rows
    assert scans[1:] == ("scans", "0", "–", "–", "–")


def test_external_tests_are_left_to_their_own_table(folder: Path) -> None:
    run = _run(folder)
    info = dataclasses.replace(run.info, evaluations={"test": Evaluation("elsewhere", "external")})
    table = checks.levels_table([dataclasses.replace(run, info=info)])
    assert table.rows == ()
    assert any("No run has the predictions" in note for note in table.notes)
