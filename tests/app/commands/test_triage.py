from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.uid import JPEG2000

from builders.bundles import small_bundle
from builders.dicom import make_ct_series
from builders.oracle import SPACING, chest_with_lesions
from covid_ct_mask_net.__main__ import main


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    make_ct_series(folder, hu=chest_with_lesions(), spacing=SPACING)
    return folder


def test_a_table_at_the_end_and_results_on_disk(
    bundle: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["triage", str(study), "-o", str(tmp_path / "out"), "--bundle", str(bundle)]) == 0
    printed = capsys.readouterr()
    assert "assessed" in printed.out
    assert "Research use only" in printed.out
    assert "PATIENT-1" not in printed.out + printed.err
    (result,) = (tmp_path / "out").glob("*/result.json")
    assert json.loads(result.read_text())["status"] == "assessed"


def test_quiet_says_nothing(
    bundle: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["triage", str(study), "-o", str(tmp_path / "out"), "--bundle", str(bundle), "--quiet"]
    assert main(command) == 0
    assert capsys.readouterr().out == ""


def test_reasons_go_to_standard_error(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert main(["triage", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--bundle", str(bundle)]) == 3
    assert "NO_DICOM: None of 1 files could be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--weights", "none.pt"], 5, "WEIGHTS_MISSING"),
        (["--bundle", "nowhere"], 5, "BUNDLE_MISSING"),
    ],
)
def test_what_cannot_be_trusted_ends_the_run(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], code: int, reason: str,
) -> None:  # fmt: skip
    assert main(["triage", str(study), "-o", str(tmp_path / "out"), *arguments]) == code
    assert reason in capsys.readouterr().err


def test_a_missing_input_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triage", str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 2
    assert "INPUT_MISSING" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["triage", "--help"])
    assert caught.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_lossy_images_are_read_by_switch_and_the_report_warns(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_ct_series(
        tmp_path / "in",
        hu=chest_with_lesions(),
        spacing=SPACING,
        transfer_syntax=JPEG2000,
        edit=lambda _, dataset: setattr(dataset, "LossyImageCompression", "01"),
    )
    command = ["triage", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--bundle", str(bundle)]
    assert main(command) != 0
    assert "TRANSFER_SYNTAX" in (tmp_path / "out" / "run.json").read_text()
    assert main([*command, "--lossy"]) == 0
    (report,) = (tmp_path / "out").glob("*/sr.dcm")
    assert b"Warning: LOSSY_COMPRESSION." in report.read_bytes()
