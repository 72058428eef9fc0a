from __future__ import annotations

import csv
from pathlib import Path

import pytest

from covid_ct_mask_net.__main__ import main


@pytest.mark.slow
def test_demo_writes_one_series_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthesize", str(tmp_path / "demo"), "--demo"]) == 0
    said = capsys.readouterr().out
    assert [name in said for name in ("Control", "Common Pneumonia", "COVID-19")] == [True] * 3
    series = sorted((tmp_path / "demo" / "dicom").iterdir())
    assert [len(list(folder.iterdir())) >= 40 for folder in series] == [True] * 3
    assert len(list((tmp_path / "demo" / "masks").iterdir())) == 3


def test_options_reach_the_cohort(tmp_path: Path) -> None:
    arguments = [
        "--patients", "1", "--seed", "2", "--size", "64", "--step", "30", "--format", "nifti",
        "--mass-share", "1", "--emphysema-share", "1",
    ]  # fmt: skip
    assert main(["synthesize", str(tmp_path / "out"), *arguments]) == 0
    with (tmp_path / "out" / "scans.csv").open(newline="") as file:
        (scan,) = csv.DictReader(file)
    assert scan["masses"] == "1"
    assert 0.05 <= float(scan["emphysema"]) <= 0.3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "cohort.json",
        "images",
        "masks",
        "scans.csv",
        "slices.csv",
    ]


def test_emphysema_is_not_drawn_in_real_lungs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--real", str(tmp_path), "--credit", "a", "--emphysema-share", "0.5"]
    assert main(["synthesize", str(tmp_path / "out"), *arguments]) == 2
    assert "EMPHYSEMA_SHARE" in capsys.readouterr().err


def test_real_series_need_a_credit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthesize", str(tmp_path / "out"), "--real", str(tmp_path)]) == 2
    assert "CREDIT_MISSING" in capsys.readouterr().err
