from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders.run_folders import make_classifier_run
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES, MaskType
from covid_ct_mask_net.training.evaluation import DetectionReport, classification_report
from covid_ct_mask_net.training.metrics.protocols import protocol
from covid_ct_mask_net.training.predictions import Predictions
from covid_ct_mask_net.training.runs import read_run, write_metrics
from covid_ct_mask_net.training.targets import detection_target


def test_a_classifier_is_reported_by_slice_scan_and_patient(tmp_path: Path) -> None:
    run = read_run(make_classifier_run(tmp_path))
    report = classification_report(
        run.predictions["test"], SLICE_CLASS_NAMES,
        validation=run.predictions["validation"], prevalence=[0.9, 0.05, 0.05],
    )  # fmt: skip
    assert (report["slices"]["count"], report["scans"]["count"], report["patients"]["count"]) == (60, 12, 12)
    accuracy = report["slices"]["accuracy"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert accuracy["value"] == np.trace(report["slices"]["confusion"]) / 60
    # Means of five slices are right more often than single slices.
    assert report["scans"]["accuracy"]["value"] > accuracy["value"]
    assert report["slices"]["patients"] == 12
    assert report["calibration"]["after"]["temperature"] != 1
    assert report["demographics"] == "not available"
    written = json.loads(write_metrics(tmp_path, {"test": report}).read_text())["test"]
    assert written["slices"] == report["slices"]


def test_clear_slices_of_a_diseased_scan_are_not_a_scan_of_their_own() -> None:
    # One patient with COVID-19: 4 slices show it, 6 are clear, and all slices are answered rightly.
    true = np.array([2] * 4 + [0] * 6)
    names = tuple(f"{index}.png" for index in range(10))
    whole = Predictions(names, ("p",) * 10, ("s",) * 10, np.arange(10), true, 5 * np.eye(3)[true])
    report = classification_report(whole, SLICE_CLASS_NAMES)
    assert report["slices"]["accuracy"]["value"] == 1
    for level in ("scans", "patients"):
        assert report[level]["confusion"] == [[0, 0, 0], [0, 0, 0], [1, 0, 0]], "the clear slices outvote it"
    twice = dataclasses.replace(whole, true=np.where(true, true, 1))
    for level, name in (("scans", "p/s"), ("patients", "p")):
        assert classification_report(twice, SLICE_CLASS_NAMES)[level] == {"count": 0, "left_out": [name]}


def test_predictive_values_follow_the_prevalence_that_is_given(tmp_path: Path) -> None:
    run = read_run(make_classifier_run(tmp_path))
    prevalence = [0.9, 0.09, 0.01]
    report = classification_report(run.predictions["test"], SLICE_CLASS_NAMES, prevalence=prevalence)
    # Bayes, from how slices of each class are answered: P(true and predicted) at that prevalence.
    confusion = np.array(report["slices"]["confusion"], dtype=float)
    joint = confusion / confusion.sum(axis=1, keepdims=True) * np.array(prevalence)[:, None]
    for index, name in enumerate(SLICE_CLASS_NAMES):
        ppv = joint[index, index] / joint[:, index].sum()
        others = np.delete(np.delete(joint, index, axis=0), index, axis=1).sum()
        npv = others / np.delete(joint, index, axis=1).sum()
        assert report["at_prevalence"][name]["ppv"] == pytest.approx(ppv)
        assert report["at_prevalence"][name]["npv"] == pytest.approx(npv)
    measured = report["slices"]["classes"]["COVID-19"]["ppv"]["value"]
    # All false positives of COVID-19 are common pneumonia here, which is nine times as frequent.
    assert report["at_prevalence"]["COVID-19"]["ppv"] < measured < 1


def test_calibration_and_predictive_values_have_intervals(tmp_path: Path) -> None:
    run = read_run(make_classifier_run(tmp_path))
    report = classification_report(
        run.predictions["test"], SLICE_CLASS_NAMES,
        validation=run.predictions["validation"], prevalence=[0.9, 0.09, 0.01],
    )  # fmt: skip
    for when in ("before", "after"):
        scores = report["calibration"][when]
        for name in ("ece", "brier"):
            interval = scores["intervals"][name]
            assert interval["value"] == pytest.approx(scores[name])
            assert interval["low"] < interval["high"]
        brier = scores["intervals"]["brier"]
        assert brier["low"] < brier["value"] < brier["high"]
    for name in SLICE_CLASS_NAMES:
        figures = report["at_prevalence"][name]
        for kind in ("ppv", "npv"):
            interval = figures["intervals"][kind]
            assert interval["value"] == figures[kind]
            # Where nobody is wrong there are no bounds, rather than bounds without width.
            assert math.isnan(interval["low"]) or interval["low"] < interval["value"] < interval["high"]
    assert report["at_prevalence"]["COVID-19"]["intervals"]["ppv"]["low"] > 0


def test_where_all_resamples_agree_predictive_values_have_no_bounds() -> None:
    # Four patients, none of whose slices is wrong.
    true = np.repeat([0, 1], 4)
    names = tuple(f"{index}.png" for index in range(8))
    owners = tuple(str(index // 2) for index in range(8))
    sure = Predictions(names, owners, owners, np.arange(8), true, np.eye(2)[true])
    report = classification_report(sure, ["Negative", "COVID-19"], prevalence=[0.9, 0.1])
    found = report["at_prevalence"]["COVID-19"]
    assert found["ppv"] == 1
    assert math.isnan(found["intervals"]["ppv"]["low"])


def test_without_validation_there_is_no_fitted_temperature(tmp_path: Path) -> None:
    run = read_run(make_classifier_run(tmp_path))
    report = classification_report(
        run.predictions["test"], SLICE_CLASS_NAMES, demographics={"age": "52 (18-80)"}
    )
    assert "after" not in report["calibration"]
    assert "at_prevalence" not in report
    assert report["demographics"] == {"age": "52 (18-80)"}


def test_detections_are_reported_in_every_way() -> None:
    labels = np.zeros((32, 32), np.uint8)
    labels[4:20, 4:20] = 1
    target = detection_target(labels, MaskType.BOTH)
    detection = {**target, "masks": target["masks"][:, None].float(), "scores": torch.tensor([0.9])}
    report = DetectionReport(MaskType.BOTH)
    report.update(detection, target, labels)
    values = report.compute()
    assert values["slices"] == 1
    for kind in ("coco_mask", "coco_box", "original_image_ap"):
        assert values[kind]["ap50"] == pytest.approx(1)
    assert values["lesion_dice"]["dice"]["Ground-glass opacity"] == 1
    assert values["protocol"]["name"] == "paper"
    # Every figure has an interval under the same name.
    for kind, found in values["intervals"].items():
        assert _names(found) == _names(values[kind]), kind
    assert {"coco_mask", "coco_box", "original_image_ap", "lesion_dice"} == set(values["intervals"])


def test_thresholds_of_the_original_are_those_of_the_protocol() -> None:
    labels = np.zeros((32, 32), np.uint8)
    labels[4:20, 4:20] = 1
    target = detection_target(labels, MaskType.BOTH)
    detection = {**target, "masks": target["masks"][:, None].float(), "scores": torch.tensor([0.5])}
    report = DetectionReport(MaskType.BOTH, protocol("readme"))
    report.update(detection, target, labels)
    figures = report.compute()
    assert figures["original_image_ap"]["ap"] == 0, "its scores begin at 0.75"
    assert figures["coco_mask"]["ap"] == pytest.approx(1), "COCO counts all scores"
    assert figures["protocol"]["confidence"] == 0.75


def _names(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _names(one) if isinstance(one, dict) and "low" not in one else None
        for name, one in figures.items()
    }
