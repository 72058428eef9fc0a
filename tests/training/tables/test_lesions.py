from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from builders.run_folders import make_segmentation_run
from covid_ct_mask_net.training.metrics.protocols import Protocol, protocol
from covid_ct_mask_net.training.runs import Run, read_run
from covid_ct_mask_net.training.tables.lesions import table_6
from covid_ct_mask_net.training.tables.published import MODE_NAMES


def _segmentation(folder: Path, mode: str = "full", stated: Protocol | None = None) -> Path:
    """A run evaluated under the thresholds of a protocol, the paper's if not given."""
    make_segmentation_run(folder, mode)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["test"]["protocol"] = (stated or protocol()).to_dict()
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def _changed(run: Run, **changes: Any) -> Run:
    return dataclasses.replace(run, info=dataclasses.replace(run.info, **changes))


def test_each_definition_of_ap_has_its_own_row(tmp_path: Path) -> None:
    table = table_6([read_run(_segmentation(tmp_path / "seg"))])
    ours = {row[2]: row[3:] for row in table.rows if row[1].startswith("seg: covid")}
    assert ours["original AP (mean over slices)"] == ("0.560", "0.410", "0.350", "100")
    assert ours["COCO, masks"] == ours["COCO, boxes"] == ("0.500", "0.250", "0.300", "100")
    # Only the original's AP is compared with the paper's.
    (difference,) = [row for row in table.rows if row[1] == "seg: difference to the paper"]
    assert difference[2:6] == ("original AP (mean over slices)", "-0.005", "-0.003", "-0.002")
    assert ("heads only", "not run", "–", "–", "–", "–", "–") in table.rows
    assert any("Dice of pixels from score 0.5 Ground-glass opacity 0.600" in note for note in table.notes)


@pytest.mark.parametrize("mode", ["roi_heads", "held_stem"])
def test_modes_that_the_paper_does_not_have_stand_below_its_rows(tmp_path: Path, mode: str) -> None:
    table = table_6([read_run(_segmentation(tmp_path / "seg", mode))])
    assert [row[0] for row in table.rows][-4:] == [MODE_NAMES[mode]] * 4
    assert ("full model", "not run", "–", "–", "–", "–", "–") in table.rows
    assert any(f"The paper does not have *{MODE_NAMES[mode]}*" in note for note in table.notes)


def test_published_figures_outside_of_our_interval_are_flagged(tmp_path: Path) -> None:
    folder = _segmentation(tmp_path / "seg")
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
    (difference,) = [row for row in table.rows if row[1] == "seg: difference to the paper"]
    assert difference[3:6] == ("-0.005", "-0.003 *differs*", "-0.002")
    (ours,) = [row for row in table.rows if row[1].startswith("seg: covid") and row[2].startswith("original")]
    assert ours[3:6] == ("0.560 (0.500–0.600)", "0.410 (0.420–0.500)", "0.350")


def test_other_slices_than_the_papers_are_said(tmp_path: Path) -> None:
    folder = _segmentation(tmp_path / "seg", "heads")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["test"]["slices"] = 12
    (folder / "metrics.json").write_text(json.dumps(metrics))
    table = table_6([read_run(folder)])
    (difference,) = [row for row in table.rows if row[1] == "seg: difference to the paper"]
    assert difference[3].endswith("(other slices)")
    assert any("on 12 slices, not on the paper's 100" in note for note in table.notes)


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_type": "merge"}, {"mask_type": "ggo"},
        {"settings": {"detector": {"backbone": "resnet18", "truncation": 1}}, "mask_type": "merge"},
    ],
)  # fmt: skip
def test_other_networks_are_not_compared_with_the_papers(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = read_run(_segmentation(tmp_path / "seg"))
    table = table_6([_changed(run, **changes)])
    (difference,) = [row for row in table.rows if row[1].startswith("seg: difference")]
    assert difference[1:] == ("seg: difference", "original AP (mean over slices)", "–", "–", "–", "")
    assert any("is compared with no figure" in note for note in table.notes)
    assert not any("is compared with no figure" in note for note in table_6([run]).notes)


def test_the_readmes_figures_are_compared_under_its_thresholds_alone(tmp_path: Path) -> None:
    merged = _changed(read_run(_segmentation(tmp_path / "seg", stated=protocol("readme"))), mask_type="merge")
    (difference,) = [row for row in table_6([merged]).rows if row[1] == "seg: difference to the README"]
    # README: 61.92 / 45.22 / 44.68 %.
    assert difference[3:6] == ("-0.059", "-0.042", "-0.097")


@pytest.mark.parametrize("stated", [protocol("code"), protocol(roi_nms=0.4), None])
def test_other_thresholds_than_the_papers_are_not_compared(tmp_path: Path, stated: Protocol | None) -> None:
    folder = tmp_path / "seg"
    if stated is None:
        make_segmentation_run(folder)
    else:
        _segmentation(folder, stated=stated)
    table = table_6([read_run(folder)])
    (difference,) = [row for row in table.rows if row[1].startswith("seg: difference")]
    assert (difference[1], *difference[3:6]) == ("seg: difference", "–", "–", "–")
    assert any("is compared with no figure" in n and "thresholds" in n for n in table.notes)


def test_the_readmes_figures_stand_beside_the_papers() -> None:
    rows = [row for row in table_6([]).rows if row[1].startswith("README")]
    assert [row[0] for row in rows] == ["full model"] * 4
    assert ("README, merged lesions", "0.6192", "0.4522", "0.4468") in [(row[1], *row[3:6]) for row in rows]
    light = [row for row in rows if row[1] == "README, resnet18 truncated by 1, merged lesions"]
    assert [row[3:] for row in light] == [("0.4995", "0.3778", "0.3932", "100")]
