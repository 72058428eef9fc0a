"""The application as a graph of operators, run as ``python app`` runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from builders.bundles import small_bundle
from builders.dicom import make_ct_series
from builders.nifti import SPACING_MM

ROOT = Path(__file__).resolve().parents[3]


def _run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, str(ROOT / "app"), *arguments], cwd=folder, env=environment, capture_output=True,
        text=True, timeout=240, check=False,
    )  # fmt: skip


def test_several_studies_stream_through_the_graph(tmp_path: Path) -> None:
    for number in range(3):
        make_ct_series(
            tmp_path / "in" / str(number),
            patient_id=f"PATIENT-{number}",
            spacing=(SPACING_MM[2], SPACING_MM[1], SPACING_MM[0]),
        )
    # The files of the second study are cut off inside the header.
    for file in (tmp_path / "in" / "1").iterdir():
        file.write_bytes(file.read_bytes()[:700])
    bundle = small_bundle(tmp_path / "models" / "bundle")
    done = _run(tmp_path, "-i", "in", "-o", "out", "-m", str(bundle.parent))
    assert done.returncode == 0, done.stderr[-3000:]
    worklist = json.loads((tmp_path / "out" / "worklist.json").read_text(encoding="utf-8"))
    assert [study["status"] for study in worklist["studies"]] == ["assessed", "assessed"]
    for study in worklist["studies"]:
        folder = (tmp_path / "out" / study["result"]).parent
        assert {path.name for path in folder.iterdir()} >= {"result.json", "sr.dcm"}
    assert "Müller" not in done.stdout + done.stderr
    assert "PATIENT-" not in done.stdout + done.stderr


def test_a_model_that_is_not_there_is_not_replaced(tmp_path: Path) -> None:
    make_ct_series(tmp_path / "in")
    done = _run(
        tmp_path, "-o", "out", HOLOSCAN_INPUT_PATH=str(tmp_path / "in"),
        HOLOSCAN_MODEL_PATH=str(tmp_path / "none"),
    )  # fmt: skip
    assert done.returncode == 5, done.stderr[-3000:]
    assert "BUNDLE_MISSING" in done.stderr
    # The SDK makes the folder; no run began in it.
    assert not list(tmp_path.glob("out/*"))


def test_a_bundle_whose_configuration_is_broken_ends_in_one_line(tmp_path: Path) -> None:
    """As on the command line: the code of a defect, and no traceback in the logs of the platform."""
    make_ct_series(tmp_path / "in")
    bundle = small_bundle(tmp_path / "models" / "bundle")
    (bundle / "configs" / "inference.yaml").write_text("triage: [\n", encoding="utf-8")
    done = _run(tmp_path, "-i", "in", "-o", "out", "-m", str(bundle.parent))
    assert done.returncode == 70, done.stderr[-3000:]
    assert "INTERNAL: The command stopped with" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_input_without_a_study_ends_with_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no image", encoding="utf-8")
    done = _run(tmp_path, "-i", "in", "-o", "out", "-m", str(small_bundle(tmp_path / "bundle")))
    assert done.returncode == 3, done.stderr[-3000:]
    assert list(tmp_path.glob("out/*/result.json"))


def test_rules_and_settings_of_the_site_hold_here_too(tmp_path: Path) -> None:
    """The rule excludes the one study, the settings ask more of the other than it gives."""
    step_mm = (SPACING_MM[2], SPACING_MM[1], SPACING_MM[0])
    make_ct_series(tmp_path / "in" / "1", patient_id="PATIENT-1", spacing=step_mm)
    make_ct_series(
        tmp_path / "in" / "2",
        patient_id="PATIENT-2",
        spacing=step_mm,
        image_type=("ORIGINAL", "PRIMARY", "HELIX"),
    )
    rules, settings = tmp_path / "rules.yaml", tmp_path / "settings.yaml"
    rules.write_text("rules: [{name: none, action: exclude, match: {ImageType: {value: AXIAL}}}]")
    settings.write_text("gates: {minimum_confidence: 0.9999}")
    done = _run(
        tmp_path, "-i", "in", "-o", "out", "-m", str(small_bundle(tmp_path / "bundle")),
        COVID_CT_MASK_NET_SERIES_RULES=str(rules), COVID_CT_MASK_NET_SETTINGS=str(settings),
    )  # fmt: skip
    assert done.returncode == 3, done.stderr[-3000:]
    results = [path.read_text(encoding="utf-8") for path in tmp_path.glob("out/*/result.json")]
    assert sorted(("EXCLUDED_BY_RULE" in one, "LOW_CONFIDENCE" in one) for one in results) == [
        (False, True), (True, False),
    ]  # fmt: skip
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["settings"]["inference"]["min_confidence"] == 0.9999
