from __future__ import annotations

from pathlib import Path

import pytest

from builders.lesion_data import make_cncb, make_covidx
from builders.protocol import make_collections
from covid_ct_mask_net.__main__ import main
from covid_ct_mask_net.training.datasets.ictcf import ictcf_slices
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


def test_verify_finds_images_under_either_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The author's list writes 2_200_1200_0001.png for COVIDx-CT v1's NCP_200_1200_0001.png."""
    root = make_covidx(tmp_path, per_class=2)
    (root / "own.txt").write_text("2_200_1200_0001.png\n0_0_1000_0000.png\n")
    assert main(["splits", "verify", str(root / "own.txt"), "--images", str(root / "images")]) == 0
    assert "0 groups" in capsys.readouterr().out


def test_verify_takes_images_from_a_folder_for_each_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    covidx, cncb = make_covidx(tmp_path / "covidx"), make_cncb(tmp_path / "cncb")
    lists = [f"train={covidx}/list.txt@{covidx}/images", f"masks={cncb}/list.txt@{cncb}/images"]
    assert main(["splits", "verify", *lists]) == 0
    printed = capsys.readouterr().out
    assert "0 groups" in printed
    # Patient 0 is in both, but not the same one.
    assert "Patients of COVIDx-CT and segmentation lists have numbers of their own" in printed
    assert main(["splits", "verify", lists[0], f"masks={cncb}/list.txt"]) == 2
    assert "IMAGES_MISSING: The images of masks have no folder" in capsys.readouterr().err


def test_pixel_hashes_are_published_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = make_covidx(tmp_path / "ours"), make_cncb(tmp_path / "theirs")
    command = ["splits", "verify", f"train={ours}/list.txt@{ours}/images"]
    assert main([*command, "--hashes", str(tmp_path / "ours.csv")]) == 0
    assert "6 pixel hashes are in" in capsys.readouterr().out
    assert (tmp_path / "ours.csv").read_text().startswith("split,file,sha256\ntrain,Normal_0_1000_0000.png,")
    # Images of the other source may be gone.
    copied, target = ours / "images" / "CP_100_1100_0000.png", theirs / "images" / "0_3.jpg"
    target.write_bytes(copied.read_bytes())
    other = ["splits", "verify", f"masks={theirs}/list.txt@{theirs}/images"]
    assert main([*other, "--known-hashes", str(tmp_path / "ours.csv")]) == 4
    printed = capsys.readouterr().out
    assert f"{tmp_path}/ours.csv: train/CP_100_1100_0000.png" in printed
    assert "masks/0_3.jpg" in printed
    assert main([*command, "--hashes", str(tmp_path / "no" / "where.csv")]) == 6
    assert main(["splits", "verify", f"{ours}/list.txt", "--hashes", str(tmp_path / "x.csv")]) == 2


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


def test_a_sample_says_what_it_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = _lists(tmp_path)
    command = [
        "splits",
        "sample",
        str(first),
        "--per-class",
        "3",
        "--seed",
        "1",
        "-o",
        str(tmp_path / "s.txt"),
    ]
    assert main(command) == 0
    assert "left of other patients: 0 slices" in capsys.readouterr().out
    assert main([*command, "--patients", "1"]) == 0
    assert "left of other patients: 12 slices, 3 scans, 3 patients" in capsys.readouterr().out


def test_lists_of_ictcf_are_drawn_and_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_collections(tmp_path).ictcf
    drawn, rest = root / "drawn.txt", root / "rest.txt"
    sample = ["splits", "sample", str(root), "--layout", "ictcf", "--seed", "1", "-o", str(drawn)]
    assert main([*sample, "--per-class", "4", "--patients", "2"]) == 0
    assert "8 slices, 4 scans, 4 patients (Negative 4 / 2 / 2; COVID-19 4" in capsys.readouterr().out
    left = ["splits", "left-out", str(root), "--layout", "ictcf", "--sample", str(drawn), "-o", str(rest)]
    assert main([*left, "--patient-disjoint"]) == 0
    assert main(["splits", "verify", str(drawn), str(rest), "--layout", "ictcf", "--images", str(root)]) == 0
    records = [ictcf_slices(root, path) for path in (drawn, rest)]
    assert [len(part) for part in records] == [8, 16]
    assert not {one["patient"] for one in records[0]} & {one["patient"] for one in records[1]}


def test_ictcf_without_patients_is_drawn_but_not_called_independent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, drawn = tmp_path / "all.txt", tmp_path / "drawn.txt"
    whole.write_text("".join(f"{f}/{f}{n}.jpg {c}\n" for c, f in enumerate(("nCT", "pCT")) for n in range(5)))
    sample = ["splits", "sample", str(whole), "--layout", "ictcf", "--per-class", "2", "--seed", "1"]
    assert main([*sample, "-o", str(drawn)]) == 0
    printed = capsys.readouterr().out
    assert "10 of 10 images name no patient (for example nCT/nCT0.jpg)" in printed
    assert "of other patients" not in printed
    left = ["splits", "left-out", str(whole), "--layout", "ictcf", "--sample", str(drawn)]
    assert main(left) == 0
    printed = capsys.readouterr().out
    assert "left out: 6 slices" in printed
    assert "patient-disjoint" not in printed
    assert main([*left, "--patient-disjoint"]) == 2
    assert main([*sample, "--patients", "1", "-o", str(drawn)]) == 2
    assert "PATIENT_UNKNOWN" in capsys.readouterr().err


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


def test_the_reproduction_trains_on_the_authors_sample_and_lesions() -> None:
    """A sample that is drawn without a limit leaves no patient for Table 7 as an independent test."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "reproduction.md").read_text(encoding="utf-8")
    runs = page.replace("\\\n", " ").splitlines()
    (classifier,) = [one for one in runs if "--training_list" in one and "--validation_list" in one]
    assert "--training_list train_split_classification.txt" in classifier
    assert all("--sample 2A_images/train_split_classification.txt" in one or "iCTCF" in one
               for one in runs if one.startswith("covid-ct-mask-net splits left-out"))  # fmt: skip
    heads = [one for one in runs if "--output_dir runs/segmentation-heads" in one]
    assert ["'lesions_only': True" in one for one in heads] == [True, False]
    assert "evaluate_segmentation.yaml" in heads[1]
