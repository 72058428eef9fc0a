"""Evaluation of slice classifiers as a bundle run: everything that tables need is in the run folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders.evaluations import evaluate, missing_properties, small_weights
from builders.lesion_data import make_covidx
from builders.run_folders import logits_for, make_classifier_run, records
from covid_ct_mask_net.checkpoints import load_classifier
from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES
from covid_ct_mask_net.training.baselines import initial_baseline, save_baseline
from covid_ct_mask_net.training.changes import CONTROLS, ROBUSTNESS
from covid_ct_mask_net.training.classifier_evaluation import (
    ClassificationPlan,
    WriteClassifications,
    described_classifier,
    listed_patients,
    planned_slices,
)
from covid_ct_mask_net.training.classifier_starts import with_nms
from covid_ct_mask_net.training.datasets.covidx import covidx_slices
from covid_ct_mask_net.training.datasets.read import read_grey_image
from covid_ct_mask_net.training.run_record import WriteRun
from covid_ct_mask_net.training.runs import RunInfo, read_run, write_info
from covid_ct_mask_net.training.samples import read_samples
from covid_ct_mask_net.training.tables.report import ReportOptions, write_report

CONFIG = "evaluate_classifier.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_covidx(tmp_path_factory.mktemp("covidx"), per_class=4)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Validation, test, and changed slices, evaluated one after another."""
    folder = small_weights(tmp_path_factory.mktemp("runs") / "run")
    images = data / "images"
    evaluate(CONFIG, images, folder, evaluation="validation", limit=6)
    evaluate(
        CONFIG, images, folder, listed=str(data / "list.txt"), dataset_name="small", samples=2,
        prevalence=[0.9, 0.05, 0.05], detector_weights=str(folder / "model.pt"), roi_nms=0.5,
    )  # fmt: skip
    evaluate([CONFIG, "evaluate_robustness.yaml"], images, folder, limit=3)
    return folder


def test_predictions_are_the_networks_logits_in_the_lists_order(run: Path, data: Path) -> None:
    predictions = read_run(run).predictions["test"]
    records = covidx_slices(data / "images", data / "list.txt")
    assert predictions.files == tuple(record["file"] for record in records)
    network = with_nms(load_classifier(run / "model.pt"), roi_nms=0.5)
    image = torch.from_numpy(read_grey_image(Path(records[5]["image"])))[None]
    with torch.no_grad():
        logits = network([image])[0].double().numpy()
    assert np.allclose(predictions.logits[5], logits, atol=1e-6)


def test_run_and_metrics_say_what_was_evaluated(run: Path) -> None:
    read = read_run(run)
    assert (read.info.kind, read.info.mode) == ("classifier", "s_bn")
    evaluation = read.info.evaluations["test"]
    assert (evaluation.dataset, evaluation.source, len(evaluation.data_hash)) == ("small", "internal", 64)
    metrics = read.metrics["test"]
    assert metrics["slices"]["count"] == 12
    assert metrics["scans"]["count"] == 6
    assert "after" in metrics["calibration"], "the temperature comes from the validation slices"
    assert "after" not in read.metrics["validation"]["calibration"]
    assert metrics["at_prevalence"]["Control"]["prevalence"] == 0.9
    assert metrics["demographics"] == "not available"
    assert metrics["nms"] == {"rpn_nms": 0.75, "roi_nms": 0.5}
    assert "window" not in metrics, "images carry theirs"
    assert read.metrics["validation"]["nms"] == {"rpn_nms": 0.75, "roi_nms": 0.75}


def test_changes_are_evaluations_of_the_same_slices(run: Path) -> None:
    read = read_run(run)
    names = {f"robustness-{one}" for one in ROBUSTNESS} | {f"control-{one}" for one in CONTROLS}
    assert names | {"test", "validation"} == set(read.predictions)
    assert all(len(read.predictions[name].files) == 3 for name in names)
    tested = dict(zip(read.predictions["test"].files, read.predictions["test"].logits, strict=True))
    changed = read.predictions["robustness-window-darker"]
    assert any(not np.allclose(tested[f], row) for f, row in zip(changed.files, changed.logits, strict=True))


def test_samples_have_lesions_mask_logits_and_class_logits(run: Path) -> None:
    samples = read_samples(run)
    # Slices that were changed afterwards leave them.
    assert len(samples) == 2
    for sample in samples:
        assert sample.class_logits is not None
        assert sample.class_logits.shape == (3,)
        assert sample.mask_logits is not None
        assert list(sample.detections) == [0.25]
        assert sample.slice_class is not None


def test_tables_are_made_from_it(run: Path, tmp_path: Path) -> None:
    files = {path.name for path in write_report([read_run(run)], tmp_path, ReportOptions())}
    assert {"logits-run.png", "reliability-run.png", "confusion-run.png"} <= files
    assert len((tmp_path / "robustness.csv").read_text().splitlines()) == 1 + len(ROBUSTNESS)
    assert len((tmp_path / "controls.csv").read_text().splitlines()) == 1 + len(CONTROLS)


def test_a_training_keeps_its_own_description(data: Path, tmp_path: Path) -> None:
    folder = small_weights(tmp_path / "run")
    write_info(folder, RunInfo("classifier", "full", seed=7, training_patients=("0/0",)))
    metadata = tmp_path / "metadata.csv"
    metadata.write_text("patient id,age,sex\n0,50,M\n")
    evaluate(
        CONFIG, data / "images", folder, evaluation="external", source="external", metadata=str(metadata),
    )  # fmt: skip
    info = read_run(folder).info
    assert (info.mode, info.seed, info.training_patients) == ("full", 7, ("0/0",))
    assert info.evaluations["external"].source == "external"
    figures = json.loads((folder / "metrics.json").read_text())["external"]
    assert figures["demographics"]["age"]["median"] == 50


@pytest.mark.parametrize("stale", [False, True])
def test_a_temperature_is_not_fitted_on_answers_of_older_weights(stale: bool, tmp_path: Path) -> None:
    folder, rows = make_classifier_run(tmp_path / "run"), records()
    info = read_run(folder).info
    if stale:
        WriteRun(folder, info)()
    plan = ClassificationPlan(class_names=info.class_names)
    writer = WriteClassifications(folder, plan, rows, info)
    writer.collect(rows, torch.from_numpy(logits_for(rows)))
    writer.write()
    figures = json.loads((folder / "metrics.json").read_text())["test"]
    assert ("after" in figures["calibration"]) is not stale
    assert "test" in read_run(folder).predictions


def _write(
    folder: Path, rows: list[dict[str, Any]], plan: ClassificationPlan, **settings: dict[str, float]
) -> None:
    writer = WriteClassifications(folder, plan, rows, RunInfo("classifier", "s"), **settings)
    writer.collect(rows, torch.from_numpy(logits_for(rows)))
    writer.write()


def test_settings_that_were_evaluated_with_stand_beside_the_figures(tmp_path: Path) -> None:
    window = {"window_level": 40.0, "window_width": 400.0}
    plan = ClassificationPlan(class_names=SLICE_CLASS_NAMES)
    _write(tmp_path, records(6), plan, window=window, nms={})
    _write(tmp_path, records(6), dataclasses.replace(plan, name="plain"))
    metrics = read_run(tmp_path).metrics
    assert metrics["test"]["window"] == window
    assert not {"nms", "window"} & {*metrics["plain"], *(metrics["test"].keys() - {"window"})}


def test_samples_are_those_of_the_last_evaluation_of_that_name(tmp_path: Path) -> None:
    plan, info = ClassificationPlan(class_names=SLICE_CLASS_NAMES, samples=1), RunInfo("classifier", "s")
    given = {"slice_class": 0, "patient": "P", "scan": "1", "slice": 0, "image": torch.zeros(1, 4, 4)}
    for file, name in (("a.png", "test"), ("b.png", "elsewhere"), ("c.png", "test")):
        rows = [{**given, "file": file}]
        writer = WriteClassifications(tmp_path, dataclasses.replace(plan, name=name), rows, info)
        writer.reset()
        writer.collect(rows, torch.zeros(1, 3))
        writer.write()
    assert [one.file for one in read_samples(tmp_path)] == ["c.png"]
    assert [one.file for one in read_samples(tmp_path, "elsewhere")] == ["b.png"]


def test_changed_slices_of_another_evaluation_replace_none(tmp_path: Path) -> None:
    folder, own, other = make_classifier_run(tmp_path / "run"), records(), records(6)
    name = "robustness-jpeg-50"
    plan = ClassificationPlan(class_names=SLICE_CLASS_NAMES, changes=(name,))
    _write(folder, [{**row, "change": name} for row in own], plan)
    elsewhere = dataclasses.replace(plan, name="elsewhere", dataset="hospital B", source="external")
    _write(folder, [{**row, "change": name} for row in other], elsewhere)
    read = read_run(folder)
    assert len(read.predictions[name].files) == 60
    assert len(read.predictions[f"elsewhere-{name}"].files) == 30
    assert read.info.evaluations[name].source == "internal"
    assert read.info.evaluations[f"elsewhere-{name}"].dataset == "hospital B"
    with pytest.raises(UsageError, match=r"Evaluation test of .* is internal"):
        _write(folder, other, dataclasses.replace(plan, source="external"))
    # Changed validation slices are validation slices, too.
    _write(folder, [{**row, "change": name} for row in own], dataclasses.replace(plan, name="validation"))
    assert "after" not in read_run(folder).metrics[f"validation-{name}"]["calibration"]


def test_the_list_that_imported_weights_were_trained_on_gives_their_patients(
    data: Path, tmp_path: Path
) -> None:
    images, folder = data / "images", small_weights(tmp_path / "run")
    evaluate(CONFIG, images, folder, evaluation="left_out", limit=2)
    assert read_run(folder).info.training_patients == ()
    listed = (data / "list.txt").read_text().splitlines()[:3]
    (tmp_path / "sample.txt").write_text("\n".join(listed))
    evaluate(
        CONFIG, images, folder, evaluation="left_out", limit=2, trained_list=str(tmp_path / "sample.txt")
    )
    expected = {
        f"{one['slice_class']}/{one['patient']}" for one in covidx_slices(images, data / "list.txt")[:3]
    }
    assert set(read_run(folder).info.training_patients) == expected
    # A training knows better.
    with pytest.raises(UsageError, match=r"trained_list has \d+ patients, but run.json of"):
        WriteClassifications(
            folder, ClassificationPlan(), [], RunInfo("classifier", "s", training_patients=("0/x",))
        )


def test_lists_of_two_layouts_name_patients(tmp_path: Path) -> None:
    (tmp_path / "sample.txt").write_text("pCT/Patient 7/3.jpg 1\nnCT/Patient 7/9.jpg 0\n")
    assert listed_patients("ictcf", tmp_path, "sample.txt") == ("0/patient-7", "1/patient-7")
    assert listed_patients("volumes", tmp_path, None) == ()
    with pytest.raises(UsageError, match="covidx and ictcf, not of volumes"):
        listed_patients("volumes", tmp_path, "sample.txt")


@pytest.mark.parametrize("overlays", [[], ["evaluate_robustness.yaml"]])
def test_the_configuration_has_the_properties_of_a_bundle(overlays: list[str], run: Path, data: Path) -> None:
    assert missing_properties([CONFIG, *overlays], data / "images", run) == []


def test_baselines_are_evaluated_in_the_same_harness(data: Path, tmp_path: Path) -> None:
    save_baseline(tmp_path / "run" / "model.pt", initial_baseline("light-cnn", 3, 64, "random", 1))
    evaluate(CONFIG, data / "images", tmp_path / "run", mode="full", samples=0)
    read = read_run(tmp_path / "run")
    assert (read.info.label, len(read.predictions["test"].files)) == ("light-cnn", 12)


def test_plans_choose_slices_and_refuse_odd_names() -> None:
    records = [{"file": str(index)} for index in range(10)]
    assert len(planned_slices(records, ClassificationPlan())) == 10
    few = planned_slices(records, ClassificationPlan(limit=2, changes=("robustness-jpeg-50",)))
    assert [one["file"] for one in few] == ["0", "9"]
    with pytest.raises(UsageError, match="letters, digits"):
        ClassificationPlan(name="../x")
    with pytest.raises(UsageError, match="as those of changed slices are"):
        ClassificationPlan(name="control-group")
    assert ClassificationPlan(name="my-control-group").name == "my-control-group"


def test_networks_that_do_not_fit_end_in_a_sentence(tmp_path: Path) -> None:
    plan = ClassificationPlan(class_names=SLICE_CLASS_NAMES)
    writer = WriteClassifications(tmp_path, plan, [], RunInfo("classifier", "s"))
    item = {"file": "a.png", "slice_class": 1, "image": torch.zeros(1, 4, 4)}
    with pytest.raises(NotAssessableError, match=r"gave no number for a\.png"):
        writer.collect([item], torch.tensor([[1.0, float("nan"), 0.0]]))
    with pytest.raises(UsageError, match="tells 2 classes apart"):
        writer.collect([item], torch.zeros(1, 2))
    with pytest.raises(UsageError, match=r"a\.png has class 3"):
        writer.collect([{**item, "slice_class": 3}], torch.zeros(1, 3))


def test_imported_classifiers_are_described(tmp_path: Path) -> None:
    network = load_classifier(small_weights(tmp_path) / "model.pt")
    info = described_classifier(network, "s", 3)
    assert (info.kind, info.mask_type, info.class_names) == ("classifier", "both", SLICE_CLASS_NAMES)
    assert info.settings["classifier"]["regions"] == 16
    assert described_classifier(network, "s", 2).kind == "binary"
