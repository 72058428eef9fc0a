"""Evaluations on other collections have a table of their own."""

from __future__ import annotations

import json
from pathlib import Path

from builders.run_folders import (
    add_predictions,
    logits_for,
    make_classifier_run,
    make_segmentation_run,
    records,
)
from covid_ct_mask_net.training.runs import read_run
from covid_ct_mask_net.training.tables.external import external_table
from covid_ct_mask_net.training.tables.lesions import table_6


def test_classifiers_and_detectors_have_rows(tmp_path: Path) -> None:
    folder = make_classifier_run(tmp_path / "classes")
    add_predictions(folder, records(), logits_for(records()), "elsewhere", "external")
    # Changed slices are no further collection.
    add_predictions(folder, records(), logits_for(records()), "elsewhere-robustness-jpeg-50", "external")
    detector = make_segmentation_run(tmp_path / "lesions", source="external")
    metrics = json.loads((detector / "metrics.json").read_text())
    metrics["test"]["patients"] = 20
    (detector / "metrics.json").write_text(json.dumps(metrics))
    classes, lesions = external_table([read_run(folder), read_run(detector)]).rows
    assert classes[:2] == ("classes: covid-ct-mask-net s_bn (both)", "elsewhere (elsewhere)")
    assert "COVID-19 " in classes[2]
    assert classes[5:] == ("–", "60", "12")
    assert lesions[1:5] == ("another hospital (test)", "–", "–", "–")
    assert lesions[5].startswith("original AP (mean over slices): 0.560, 0.410, 0.350; COCO, masks: 0.500")
    assert lesions[6:] == ("100", "20")
    # A hundred slices of another hospital are not the paper's hundred.
    rows = [row[1] for row in table_6([read_run(detector)]).rows]
    assert [source for source in rows if not source.startswith("README")] == ["paper", "not run"] * 2


def test_without_any_it_says_so(tmp_path: Path) -> None:
    table = external_table([read_run(make_classifier_run(tmp_path / "run"))])
    assert table.rows == ()
    assert table.notes == ("No run was evaluated on a collection that it was not trained on.",)
