"""Baselines train, resume and are evaluated as COVID-CT-Mask-Net does and is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import squeezenet1_1

from builders.evaluations import evaluate
from builders.lesion_data import make_covidx
from builders.training import classifier_workflow, finish, train_classifier
from covid_ct_mask_net.training.baseline_training import (
    baseline_run,
    check_precision,
    prepare_whole_slices,
)
from covid_ct_mask_net.training.baselines import WholeSliceClassifier, load_slice_classifier
from covid_ct_mask_net.training.bundle_run import expected_failure
from covid_ct_mask_net.training.runs import read_run

OVERLAY = "train_baseline.yaml"
TINY = {"baseline": "light-cnn", "image_size": 64, "learning_rate": 1e-3, "batch_size": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_covidx(tmp_path_factory.mktemp("covidx"), per_class=6)


def test_a_baseline_trains_and_is_tested_in_the_same_harness(data: Path, tmp_path: Path) -> None:
    run = train_classifier(data / "images", tmp_path / "run", OVERLAY, epochs=4, **TINY)
    read = read_run(run)
    assert (read.info.kind, read.info.mode, read.info.label) == ("classifier", "full", "light-cnn")
    assert read.info.settings["training"]["epochs"] == 4
    assert read.info.parameters["total"] == read.info.parameters["trainable"]
    assert read.info.training_patients
    losses = read.history["train/loss"]
    assert losses[-1] < losses[0]
    assert "val/accuracy" in read.history
    evaluate("evaluate_classifier.yaml", data / "images", run, samples=0)
    tested = read_run(run)
    assert len(tested.predictions["test"].files) == 18
    assert tested.info.training_patients == read.info.training_patients


def test_a_resumed_baseline_equals_an_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    whole = train_classifier(data / "images", tmp_path / "whole", OVERLAY, epochs=2, **TINY)
    half = train_classifier(data / "images", tmp_path / "half", OVERLAY, epochs=1, **TINY)
    train_classifier(data / "images", half, OVERLAY, epochs=2, resume=True, **TINY)
    first, second = (load_slice_classifier(run / "model.pt").state_dict() for run in (whole, half))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_baseline_does_not_go_on_with_other_start_weights(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "squeezenet.pth"
    torch.save(squeezenet1_1(weights=None).state_dict(), path)
    settings: dict[str, Any] = {**TINY, "weights": str(path)}
    run = train_classifier(data / "images", tmp_path / "run", OVERLAY, epochs=1, **settings)
    torch.save(squeezenet1_1(weights=None).state_dict(), path)
    with pytest.raises(RuntimeError) as failure:
        train_classifier(data / "images", run, OVERLAY, epochs=2, resume=True, **settings)
    found = expected_failure(failure.value)
    assert found is not None
    assert "other values of weights_sha256;" in found.sentence


def test_half_precision_is_bfloat16_and_refused_where_it_would_have_no_effect(
    data: Path, tmp_path: Path
) -> None:
    check_precision("cuda:1", True)
    check_precision(torch.device("cpu"), False)
    run = classifier_workflow(data / "images", tmp_path / "run", OVERLAY, amp="true", device="cpu", **TINY)
    with pytest.raises(RuntimeError) as failure:
        finish(run, tmp_path / "run")
    found = expected_failure(failure.value)
    assert found is not None
    assert found.sentence.startswith("Baselines have half precision on a CUDA GPU alone, not on cpu")
    run = classifier_workflow(data / "images", tmp_path / "run", OVERLAY, device="cpu", **TINY)
    trainer = run.parser.get_parsed_content("train#trainer")
    assert (trainer.amp, trainer.amp_kwargs) == (False, {"dtype": torch.bfloat16})


def test_two_classes_make_a_binary_run() -> None:
    slices = [{"file": "a", "patient": "1", "scan": "1", "slice": 0, "slice_class": 1}]
    info = baseline_run(
        WholeSliceClassifier("light-cnn", 2, 64), slices, [], class_names=("a", "b"), seed=1, settings={},
    )  # fmt: skip
    assert (info.kind, info.training_patients, list(info.data)) == ("binary", ("1/1",), ["train"])


def test_slices_and_classes_of_a_batch() -> None:
    batch = [
        {"image": torch.zeros(1, 4, 5), "slice_class": 2},
        {"image": torch.zeros(1, 6, 4), "slice_class": 0},
    ]
    images, classes = prepare_whole_slices(batch, torch.device("cpu"), False)
    assert [tuple(image.shape) for image in images] == [(1, 4, 5), (1, 6, 4)]
    assert classes.tolist() == [2, 0]
