from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from builders.run_folders import make_classifier_run, make_segmentation_run
from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.runs import (
    Evaluation,
    RunInfo,
    add_evaluation,
    append_history,
    check_source,
    git_commit,
    read_run,
    write_info,
    write_metrics,
)


def test_a_classifier_run_comes_back(tmp_path: Path) -> None:
    run = read_run(make_classifier_run(tmp_path / "run"))
    assert run.info.label == "covid-ct-mask-net s_bn (both)"
    assert set(run.predictions) == {"test", "validation", "left_out"}
    assert run.info.evaluations["test"].source == "internal"
    assert run.info.training_patients == ("0/0", "1/1", "2/2")
    assert run.history["epoch"].tolist() == [1, 2, 3]
    assert run.metrics == {}


def test_a_segmentation_run_has_metrics_and_no_predictions(tmp_path: Path) -> None:
    run = read_run(make_segmentation_run(tmp_path / "run"))
    assert run.predictions == {}
    assert run.metrics["test"]["coco_mask"]["ap50"] == 0.5


def test_baselines_are_named_by_their_model(tmp_path: Path) -> None:
    assert RunInfo(kind="classifier", mode="full", model="resnet50").label == "resnet50"


def test_history_of_a_resumed_run_repeats_no_epoch_and_takes_new_columns(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        append_history(tmp_path, {"epoch": epoch, "loss": 1.0 / epoch})
    append_history(tmp_path, {"epoch": 2, "loss": 9.0, "val": 0.5})
    write_info(tmp_path, RunInfo(kind="classifier", mode="s"))
    history = read_run(tmp_path).history
    assert history["epoch"].tolist() == [1, 2]
    assert history["loss"].tolist() == [1, 9]
    assert np.isnan(history["val"][0])


def test_unknown_kinds_and_sources_are_refused() -> None:
    with pytest.raises(UsageError, match="segmentation: roi_heads, heads, held_stem, full"):
        RunInfo(kind="segmentation", mode="s")
    with pytest.raises(UsageError, match="internal or external"):
        RunInfo(kind="classifier", mode="s", evaluations={"test": Evaluation("x", "elsewhere")})


def test_folders_that_are_no_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"run\.json is missing"):
        read_run(tmp_path)
    path = make_segmentation_run(tmp_path / "run") / "run.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "colour": "red"}))
    with pytest.raises(RefusedInputError, match=r"run\.json cannot be understood.*colour"):
        read_run(path.parent)
    path.write_text(json.dumps({**values, "schema": "other/1"}))
    with pytest.raises(RefusedInputError, match="does not have the schema"):
        read_run(path.parent)
    path.write_text(json.dumps(values))
    (path.parent / "history.csv").write_text("epoch,loss\n1,low\n")
    with pytest.raises(RefusedInputError, match=r"history\.csv has a value that is no number"):
        read_run(path.parent)


def test_the_commit_of_this_checkout_and_of_none(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "unknown"
    commit = git_commit(Path(__file__).parent)
    assert commit == "unknown" or len(commit.removesuffix("+changes")) == 40


def test_an_external_evaluation_does_not_replace_an_internal_one(tmp_path: Path) -> None:
    check_source(tmp_path / "new", "test", "external")
    folder = make_classifier_run(tmp_path / "run")
    check_source(folder, "test", "internal")
    check_source(folder, "elsewhere", "external")
    with pytest.raises(UsageError, match=r"Evaluation test of .* is internal \(COVIDx-CT v1 test\)"):
        check_source(folder, "test", "external")
    # What is of older weights is of no use any more.
    info = read_run(folder).info
    stale = {"test": dataclasses.replace(info.evaluations["test"], stale=True)}
    write_info(folder, dataclasses.replace(info, evaluations=stale))
    check_source(folder, "test", "external")


def test_training_patients_are_added_where_none_are_stated(tmp_path: Path) -> None:
    folder = make_classifier_run(tmp_path / "run")
    info = read_run(folder).info
    known = dataclasses.replace(info, training_patients=("0/7", "2/7", "1/a/b"))
    add_evaluation(folder, "test", Evaluation("COVIDx-CT v1 test"), {}, known)
    assert read_run(folder).info.training_patients == info.training_patients
    write_info(folder, dataclasses.replace(info, training_patients=()))
    add_evaluation(folder, "test", Evaluation("COVIDx-CT v1 test"), {}, known)
    assert read_run(folder).info.training_patients == known.training_patients
    assert known.patients_trained_on == {"7", "a/b"}


def test_evaluations_that_are_stale_or_not_described_are_left_out_by_name(tmp_path: Path) -> None:
    folder = make_classifier_run(tmp_path / "run")
    info = read_run(folder).info
    evaluations = {**info.evaluations, "test": dataclasses.replace(info.evaluations["test"], stale=True)}
    del evaluations["left_out"]
    write_info(folder, dataclasses.replace(info, evaluations=evaluations))
    write_metrics(folder, {"test": {"count": 1}, "validation": {"count": 2}})
    run = read_run(folder)
    assert set(run.predictions) == set(run.metrics) == {"validation"}
    assert run.left_out == {
        "left_out": "run.json does not say on which slices it was made",
        "test": "of weights before the last training; evaluate again",
    }
    add_evaluation(folder, "test", Evaluation("COVIDx-CT v1 test"), {"count": 3}, info)
    assert "test" in read_run(folder).predictions
