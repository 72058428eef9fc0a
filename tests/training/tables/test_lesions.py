from __future__ import annotations

import json
from pathlib import Path

from builders.run_folders import make_segmentation_run
from covid_ct_mask_net.training.runs import read_run
from covid_ct_mask_net.training.tables.lesions import table_6


def test_each_definition_of_ap_has_its_own_row(tmp_path: Path) -> None:
    table = table_6([read_run(make_segmentation_run(tmp_path / "seg"))])
    ours = {row[2]: row[3:] for row in table.rows if row[1].startswith("seg: covid")}
    assert ours["original AP (mean over slices)"] == ("0.560", "0.410", "0.350", "100")
    assert ours["COCO, masks"] == ours["COCO, boxes"] == ("0.500", "0.250", "0.300", "100")
    # Only the original's AP is compared with the paper's.
    (difference,) = [row for row in table.rows if row[1] == "seg: difference"]
    assert difference[2:6] == ("original AP (mean over slices)", "-0.005", "-0.003", "-0.002")
    assert ("heads only", "not run", "–", "–", "–", "–", "–") in table.rows
    assert any("Dice of pixels from score 0.5 Ground-glass opacity 0.600" in note for note in table.notes)


def test_published_figures_outside_of_our_interval_are_flagged(tmp_path: Path) -> None:
    folder = make_segmentation_run(tmp_path / "seg")
    metrics = json.loads((folder / "metrics.json").read_text())
    # The paper prints 0.565 and 0.413 for the full model.
    metrics["test"]["intervals"] = {
        "original_image_ap": {
            "ap50": {"value": 0.56, "low": 0.50, "high": 0.60},
            "ap75": {"value": 0.41, "low": 0.42, "high": 0.50},
            "ap": {"value": 0.35, "low": None, "high": None},
        }
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    table = table_6([read_run(folder)])
    (difference,) = [row for row in table.rows if row[1] == "seg: difference"]
    assert difference[3:6] == ("-0.005", "-0.003 *differs*", "-0.002")
    (ours,) = [row for row in table.rows if row[1].startswith("seg: covid") and row[2].startswith("original")]
    assert ours[3:6] == ("0.560 (0.500–0.600)", "0.410 (0.420–0.500)", "0.350")


def test_other_slices_than_the_papers_are_said(tmp_path: Path) -> None:
    folder = make_segmentation_run(tmp_path / "seg", "heads")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["test"]["slices"] = 12
    (folder / "metrics.json").write_text(json.dumps(metrics))
    table = table_6([read_run(folder)])
    (difference,) = [row for row in table.rows if row[1] == "seg: difference"]
    assert difference[3].endswith("(other slices)")
    assert any("on 12 slices, not on the paper's 100" in note for note in table.notes)
