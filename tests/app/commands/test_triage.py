from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.uid import JPEG2000

from builders.bundles import small_bundle
from builders.dicom import make_ct_series
from builders.oracle import SPACING, chest_with_lesions
from covid_ct_mask_net.__main__ import main
from covid_ct_mask_net.app.run import TriageRun


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
        (["--slices", "bad"], 2, "SETTING"),
        (["--device", "tpu"], 2, "DEVICE"),
        (["--device", "cuda:x"], 2, "DEVICE"),
        (["--set", "gates.minimum_confidence=1"], 2, "SETTING"),
    ],
)
@pytest.mark.parametrize("empty", [True, False], ids=["no files", "study"])
def test_wrong_arguments_end_the_run_before_anything_is_read_or_made(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], code: int, reason: str, empty: bool,
) -> None:  # fmt: skip
    def read(*_: object, **__: object) -> None:
        raise AssertionError("the input was read")

    monkeypatch.setattr(TriageRun, "start", read)
    inputs = tmp_path / "in" if empty else study
    inputs.mkdir(exist_ok=True)
    assert main(["triage", str(inputs), "-o", str(tmp_path / "out"), *arguments]) == code
    assert f"{reason}: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_trusted_are_told_without_a_study_too(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "weights.pt").touch()
    weights = ["--bundle", str(bundle), "--weights", str(tmp_path / "weights.pt")]
    assert main(["triage", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *weights]) == 5
    assert "WEIGHTS_UNLISTED: " in capsys.readouterr().err


def test_an_answer_that_is_not_sure_enough_is_none_if_the_site_asks_for_it(
    bundle: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["triage", str(study), "-o", str(tmp_path / "out"), "--bundle", str(bundle)]
    assert main([*command, "--set", "gates.minimum_confidence=0.9999"]) == 3
    assert "LOW_CONFIDENCE: The most likely class has a probability of" in capsys.readouterr().err
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert settings["inference"]["min_confidence"] == settings["gates"]["minimum_confidence"] == 0.9999
    assert settings["inference"]["slices"] == "all"


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
