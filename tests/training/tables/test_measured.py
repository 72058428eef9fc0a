from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from builders.run_folders import make_classifier_run
from covid_ct_mask_net.training.runs import Evaluation, read_run
from covid_ct_mask_net.training.tables.measured import (
    dataset_of,
    internal,
    light_backbone,
    measure,
    of_mode,
    run_label,
    variant,
    with_predictions,
)


def test_figures_come_from_predictions(tmp_path: Path) -> None:
    run = read_run(make_classifier_run(tmp_path / "seed-1"))
    one = measure(run, "test")
    predictions = run.predictions["test"]
    assert one.count == 60
    assert one.intervals.accuracy.estimate == np.mean(predictions.predicted == predictions.true)
    assert np.trace(one.confusion) / 60 == one.intervals.accuracy.estimate
    assert (one.label, one.external) == ("seed-1: covid-ct-mask-net s_bn (both)", False)
    assert measure(run, "test", "scans").count == 12
    assert measure(run, "test", chosen=predictions.true == 2).count == 20


def test_an_evaluation_that_is_not_described_is_not_taken_for_an_internal_one(tmp_path: Path) -> None:
    run = read_run(make_classifier_run(tmp_path / "run"))
    assert internal(run, "test")
    bare = dataclasses.replace(run, info=dataclasses.replace(run.info, evaluations={}))
    assert measure(bare, "test").evaluation == Evaluation("test", "unknown")
    assert not internal(bare, "test")
    assert dataset_of(run, "test") == "COVIDx-CT v1 test (internal)"
    assert dataset_of(bare, "test") == "test, data set not stated"
    assert with_predictions([bare], "test", "classifier") == []


def test_light_models_are_told_by_their_backbone(tmp_path: Path) -> None:
    run = read_run(make_classifier_run(tmp_path / "run"))
    assert light_backbone(run) == ""
    settings = {"detector": {"backbone": "resnet18", "truncation": 1}}
    light = dataclasses.replace(run, info=dataclasses.replace(run.info, settings=settings))
    assert run_label(light) == "run: covid-ct-mask-net s_bn (both), resnet18 truncated by 1"
    assert variant(run) == ("resnet50", 0, "both", "s_bn")
    assert variant(light) == ("resnet18", 1, "both", "s_bn")


def test_runs_are_chosen_by_kind_model_and_mode(tmp_path: Path) -> None:
    runs = [
        read_run(make_classifier_run(tmp_path / "s", "s")),
        read_run(make_classifier_run(tmp_path / "r", "full", model="resnet50")),
        read_run(make_classifier_run(tmp_path / "b", binary=True)),
    ]
    assert [run_label(run) for run in with_predictions(runs, "test", "classifier")] == [
        "s: covid-ct-mask-net s (both)"
    ]
    assert with_predictions(runs, "test", "classifier", baselines=True) == [runs[1]]
    assert with_predictions(runs, "elsewhere", "binary") == []
    assert of_mode(runs, "full") == [runs[1]]
