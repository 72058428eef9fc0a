from __future__ import annotations

import json
from pathlib import Path

import pytest

from covid_ct_mask_net.errors import ExitCode
from covid_ct_mask_net.training.fold_summary import main
from covid_ct_mask_net.training.runs import Evaluation, RunInfo, append_history, write_info


def _fold(folder: Path, ap: float, consolidation: float | None) -> Path:
    write_info(folder, RunInfo("segmentation", "full", evaluations={"test": Evaluation("fold")}))
    for epoch, loss in enumerate((3.0, 2.5, 2.0), start=1):
        append_history(folder, {"epoch": epoch, "learning_rate": 1e-3, "train/loss": loss})
    metrics = {
        "coco_mask": {"ap": ap, "ap50": 2 * ap},
        "lesion_dice": {"dice": {"Ground-glass opacity": 0.5, "Consolidation": consolidation}},
    }
    (folder / "metrics.json").write_text(json.dumps({"test": metrics}), encoding="utf-8")
    return folder


def test_a_row_a_fold_and_the_mean_of_what_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = [_fold(tmp_path / "0", 0.1, 0.3), _fold(tmp_path / "1", 0.2, None)]
    assert main([str(folder) for folder in folds]) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines() == [
        "| fold | epochs | training loss, first and last | mask AP 0.50:0.95 | AP50 "
        "| Dice, Ground-glass opacity | Dice, Consolidation |",
        "|---|---|---|---|---|---|---|",
        "| 0 | 3 | 3.00, 2.00 | 0.100 | 0.200 | 0.500 | 0.300 |",
        "| 1 | 3 | 3.00, 2.00 | 0.200 | 0.400 | 0.500 | - |",
        "| mean |  |  | 0.150 | 0.300 | 0.500 | 0.300 |",
    ]


def test_a_fold_that_was_not_evaluated_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (_fold(tmp_path / "0", 0.1, 0.3) / "metrics.json").unlink()
    assert main([str(tmp_path / "0")]) == ExitCode.REFUSED_INPUT
    assert "0 lacks a training or the evaluation" in capsys.readouterr().err
