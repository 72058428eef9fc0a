from __future__ import annotations

import dataclasses
from pathlib import Path

from builders.run_folders import make_classifier_run, make_segmentation_run
from covid_ct_mask_net.networks.settings import ClassifierSettings
from covid_ct_mask_net.training.runs import read_run
from covid_ct_mask_net.training.tables.settings_table import table_2, table_3


def test_values_of_paper_code_default_and_run_stand_side_by_side(tmp_path: Path) -> None:
    folder = make_classifier_run(tmp_path / "mine")
    run = read_run(folder)
    settings = {**run.info.settings, "classifier": ClassifierSettings(regions=128).to_dict()}
    run = dataclasses.replace(run, info=dataclasses.replace(run.info, settings=settings))
    table = table_3([run])
    rows = {row[0]: row[1:] for row in table.rows}
    assert table.columns[-1] == "mine"
    assert rows["regions N"] == ("256", "256", "256", "128")
    assert rows["epochs"] == ("50 (iCTCF: 10)", "50", "–", "50")
    assert rows["Adam learning rate"][-1] == "1e-05"


def test_segmentation_has_its_own(tmp_path: Path) -> None:
    table = table_2([read_run(make_segmentation_run(tmp_path / "seg"))])
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["RoI NMS"] == ("0.25", "0.5 (README: 0.75)", "0.25", "–")
    assert rows["RPN foreground IoU"][:3] == ("0.75", "0.7", "0.7")
    assert any("No run is shown" in note for note in table_2([]).notes)
