from __future__ import annotations

from pathlib import Path

import pytest

from builders.lesion_data import make_covidx
from covid_ct_mask_net.__main__ import main
from covid_ct_mask_net.training.datasets.lists import read_list


def _lists(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text(
        "".join(f"{c}_{p}_1_{s:04d}.png\n" for c in range(3) for p in (c, c + 10) for s in range(4))
    )
    second.write_text("Normal_50_1_0001.png 0 1 2 3 4\n")
    return first, second


def test_verify_prints_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = _lists(tmp_path)
    assert main(["splits", "verify", f"train={first}", str(second)]) == 0
    printed = capsys.readouterr().out
    assert "train: 24 slices, 6 scans, 6 patients (Control 8 / 2 / 2; Common" in printed
    assert "second: 1 slices" in printed


def test_verify_refuses_shared_patients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = _lists(tmp_path)
    second.write_text("1_11_7_0009.png\n")
    assert main(["splits", "verify", str(first), str(second)]) == 4
    assert "PATIENT_IN_TWO_SPLITS: 1 patients are in both first and second" in capsys.readouterr().err


def test_verify_needs_names_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = _lists(tmp_path)
    assert main(["splits", "verify", str(first), str(first)]) == 2
    assert "SPLIT_TWICE" in capsys.readouterr().err


def test_verify_reports_duplicate_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_covidx(tmp_path, per_class=2)
    lines = (root / "list.txt").read_text().splitlines(keepends=True)
    (root / "train.txt").write_text("".join(lines[:2]))
    (root / "test.txt").write_text("".join(lines[2:]))
    command = ["splits", "verify", str(root / "train.txt"), str(root / "test.txt"), "--images"]
    assert main([*command, str(root / "images")]) == 0
    assert "0 groups" in capsys.readouterr().out
    source = root / "images" / lines[0].split()[0]
    (root / "images" / lines[3].split()[0]).write_bytes(source.read_bytes())
    assert main([*command, str(root / "images")]) == 4
    assert "1 groups of images with the same pixels, 1 of them across" in capsys.readouterr().out
    source.unlink()
    assert main([*command, str(root / "images")]) == 4
    assert f"{source.name} is listed, but not in" in capsys.readouterr().err


def test_sample_and_left_out_are_lists_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = _lists(tmp_path)
    drawn, rest = tmp_path / "sample.txt", tmp_path / "rest.txt"
    assert main(["splits", "sample", str(first), "--per-class", "3", "--seed", "1", "-o", str(drawn)]) == 0
    assert len(read_list(drawn)) == 9
    assert main(["splits", "left-out", str(first), "--sample", str(drawn), "-o", str(rest)]) == 0
    assert {one.file for one in read_list(rest)} | {one.file for one in read_list(drawn)} == {
        one.file for one in read_list(first)
    }
    assert "100.0% of these are of patients" in capsys.readouterr().out


def test_left_out_can_be_patient_disjoint_and_keeps_lung_boxes(tmp_path: Path) -> None:
    whole, drawn, rest = tmp_path / "whole.txt", tmp_path / "drawn.txt", tmp_path / "rest.txt"
    whole.write_text("0_1_1_0001.png 0 1 2 3 4\n0_1_1_0002.png 0 1 2 3 4\nCP_2_1_0001.png 1 5 6 7 8\n")
    drawn.write_text("0_1_1_0001.png\n")
    command = [
        "splits",
        "left-out",
        str(whole),
        "--sample",
        str(drawn),
        "--patient-disjoint",
        "-o",
        str(rest),
    ]
    assert main([*command, "--patient-disjoint"]) == 0
    assert rest.read_text() == "CP_2_1_0001.png 1 5 6 7 8\n"


def test_a_list_that_cannot_be_written_is_an_output_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = _lists(tmp_path)
    target = str(tmp_path / "no" / "where.txt")
    assert main(["splits", "sample", str(first), "--per-class", "1", "--seed", "1", "-o", target]) == 6
    assert "LIST_NOT_WRITTEN" in capsys.readouterr().err
