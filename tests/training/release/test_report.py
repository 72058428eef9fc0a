from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from builders.oracle import CONSOLIDATION_HU, GGO_HU, SPACING, chest_with_lesions, oracle_pipeline
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.release.report import scan_figures
from covid_ct_mask_net.training.release.report_text import markdown
from covid_ct_mask_net.training.release.scans import AssessedScan, assess


@pytest.fixture(scope="module")
def scans() -> list[AssessedScan]:
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
    pipeline = oracle_pipeline()
    found = []
    for number, slice_class in enumerate((SliceClass.CONTROL, SliceClass.COVID_19) * 2):
        hu = chest_with_lesions(lesions=slice_class is SliceClass.COVID_19).transpose(2, 1, 0)
        truth = np.where(hu == GGO_HU, 1, np.where(hu == CONSOLIDATION_HU, 2, 0)).astype(np.uint8)
        found.append(assess(pipeline, str(number), hu, affine, slice_class, truth))
    return found


def test_an_oracle_is_perfect(scans: list[AssessedScan]) -> None:
    figures = scan_figures(scans, oracle_pipeline())
    assert figures["assessed"] == figures["scans"] == 4
    assert figures["slices"]["accuracy"]["value"] == 1.0
    assert figures["slices"]["disease_specificity"]["value"] == 1.0
    assert figures["scan_level"]["disease_specificity"]["value"] == 1.0
    assert figures["control_lesion_percent"] == [0.0, 0.0]
    assert figures["lesion_volume_dice"]["lesion"] > 0.8


def test_a_scan_of_the_wrong_class_counts_as_wrong(scans: list[AssessedScan]) -> None:
    swapped = [AssessedScan(**{**vars(scans[0]), "name": "x", "scan_class": 1}), *scans[1:]]
    figures = scan_figures(swapped, oracle_pipeline())
    assert figures["scan_level"]["accuracy"]["value"] == 0.75
    assert figures["scan_level"]["confusion"][1] == [1, 0, 0]
    assert figures["raised"]["sensitivity"] == pytest.approx(2 / 3)


def test_scans_that_were_not_assessed_are_counted(scans: list[AssessedScan]) -> None:
    figures = scan_figures([*scans, AssessedScan("y", 1, reason="NOT_CHEST")], oracle_pipeline())
    assert (figures["scans"], figures["assessed"]) == (5, 4)


def test_the_committed_page_is_that_of_the_committed_figures() -> None:
    docs = Path(__file__).resolve().parents[3] / "docs"
    report = json.loads((docs / "model_report.json").read_text(encoding="utf-8"))
    assert (docs / "model_report.md").read_text(encoding="utf-8") == markdown(report)
    listed = (docs.parent / "bundle" / "models" / "MANIFEST.sha256").read_text(encoding="utf-8").split()
    assert report["model"]["sha256"] == listed[0]
    for path in report["pictures"].values():
        assert (docs / path).stat().st_size < 600_000


def test_metadata_says_what_the_report_says() -> None:
    root = Path(__file__).resolve().parents[3]
    report = json.loads((root / "docs" / "model_report.json").read_text(encoding="utf-8"))
    metrics = json.loads((root / "bundle" / "configs" / "metadata.json").read_text(encoding="utf-8"))[
        "eval_metrics"
    ]
    for name, values in report["expert_slices"]["dice"].items():
        assert metrics[f"expert_slices_dice_{name}"] == round(values["value"], 4)
    accuracy = report["synthetic_scans"]["scan_level"]["accuracy"]["value"]
    assert metrics["synthetic_scans_accuracy"] == round(accuracy, 4)
