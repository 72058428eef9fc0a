from __future__ import annotations

from pathlib import Path

import pytest

from builders.lesion_data import make_cncb
from builders.run_folders import make_classifier_run, make_segmentation_run
from covid_ct_mask_net.__main__ import main


def test_tables_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_classifier_run(tmp_path / "runs" / "cls")
    make_segmentation_run(tmp_path / "runs" / "seg")
    out = tmp_path / "out"
    command = ["tables", str(tmp_path / "runs"), "-o", str(out), "--no-figures"]
    assert main([*command, "--prevalence", "0.9", "0.05", "0.05"]) == 0
    assert f"2 runs, 35 files; begin with {out / 'README.md'}" in capsys.readouterr().out
    assert "as given" in (out / "prevalence.csv").read_text()


def test_figure_2_of_a_data_set(tmp_path: Path) -> None:
    run, data, out = make_classifier_run(tmp_path / "cls"), make_cncb(tmp_path / "data"), tmp_path / "out"
    assert main(["tables", str(run), "-o", str(out), "--lesions", str(data)]) == 0
    assert (out / "figure-2.png").stat().st_size > 5000


def test_what_is_no_run_ends_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "RUN_MISSING: There is no run in" in capsys.readouterr().err
    run = make_classifier_run(tmp_path / "cls")
    out = str(tmp_path / "out")
    assert main(["tables", str(run), "-o", out, "--no-figures", "--prevalence", "0.9", "0.3", "0.1"]) == 2
    assert "PREVALENCE: Prevalences are" in capsys.readouterr().err
