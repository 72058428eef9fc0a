from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from covid_ct_mask_net.checkpoints import load_model
from covid_ct_mask_net.paths import bundle_root
from covid_ct_mask_net.training.files import read_json, read_rows
from covid_ct_mask_net.training.release import make as made
from covid_ct_mask_net.training.synthesis.cohort import CohortSettings


def _replaced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace every step by one that only leaves its file; return their names as they come."""
    calls: list[str] = []

    def writes(name: str):  # type: ignore[no-untyped-def]
        def run(arguments: list[str]) -> None:
            calls.append(name)
            Path(arguments[arguments.index("--output") + 1]).write_text("{}")

        return run

    def write_cohort(folder: Path, settings: CohortSettings, workers: int) -> None:
        assert workers >= 1
        calls.append(f"{settings.patients} patients")
        folder.mkdir()

    def process(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        output = Path(command[command.index("--output_dir") + 1])
        calls.append(f"run {output.name}, resume {command[command.index('--resume') + 1]}")
        output.mkdir(exist_ok=True)
        (output / "state.pt").touch()
        return subprocess.CompletedProcess(command, 3 if calls.count(calls[-1]) > 1 else 0)

    def draw(arguments: list[str]) -> None:
        assert Path(arguments[arguments.index("--chests") + 1]).name == "class-chests"
        folder = Path(arguments[arguments.index("--output") + 1])
        calls.append(f"{arguments[arguments.index('--draws') + 1]} {folder.name}")
        folder.mkdir()

    def phantoms(folder: Path, count: int, first: int = 0, emphysema_share: float = 0.0) -> None:
        calls.append(f"{folder.name} {first} to {count}, {emphysema_share} with emphysema")

    monkeypatch.setattr(made, "make_phantoms", phantoms)
    monkeypatch.setattr(made.subprocess, "run", process)
    monkeypatch.setattr(made.scores, "main", writes("scores"))
    monkeypatch.setattr(made.class_files, "main", draw)
    monkeypatch.setattr(made.rule, "main", writes("rule"))
    monkeypatch.setattr(made, "write_cohort", write_cohort)
    monkeypatch.setattr(made, "pack", lambda *_: calls.append("pack"))
    return calls


def test_steps_come_in_order_and_are_left_out_where_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = _replaced(monkeypatch)
    arguments = ["--work", str(tmp_path), "--bundle", str(tmp_path / "bundle")]
    made.main(arguments)
    phantoms = ["chests 0 to 48, 0.5 with emphysema", "class-chests 48 to 96, 0.5 with emphysema"]
    assert calls == [
        *phantoms, "60 patients", "120 patients", "run detector, resume False",
        "scores",
        "6000 slices-for-boxes", "run boxes, resume False", "3000 slices-for-head", "run head, resume False",
        "pack", "rule",
    ]  # fmt: skip
    calls.clear()
    made.main(arguments)
    assert calls == [*phantoms, "pack", "rule"]
    assert "volume rule" in capsys.readouterr().out


def test_an_interrupted_training_goes_on_and_a_failed_one_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _replaced(monkeypatch)
    arguments = ["--work", str(tmp_path), "--bundle", str(tmp_path / "bundle"), "--miniature"]
    made.main(arguments)
    (tmp_path / "boxes.done").unlink()
    made.main(arguments)
    assert "run boxes, resume True" in calls
    assert calls.count("run detector, resume False") == 1
    (tmp_path / "boxes.done").unlink()
    with pytest.raises(SystemExit) as end:
        made.main(arguments)
    assert end.value.code == 3


def test_validation_and_test_share_no_patient() -> None:
    assert made.VALIDATION.seed != made.TEST.seed


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_all_steps_run_in_miniature(tmp_path: Path) -> None:
    bundle, work = tmp_path / "bundle", tmp_path / "work"
    shutil.copytree(bundle_root(), bundle, ignore=shutil.ignore_patterns("__pycache__", "model.pt"))
    made.main(["--work", str(work), "--bundle", str(bundle), "--miniature"])
    model = load_model(bundle / "models" / "model.pt", manifest_required=True)
    assert model.detector is not None
    assert model.classifier is not None
    for name, epochs in (("detector", 2), ("boxes", 1), ("head", 2)):
        rows = read_rows(work / name / "history.csv")
        assert [row["epoch"] for row in rows] == [str(epoch + 1) for epoch in range(epochs)]
    assert read_json(work / "rule.json")["scans"] == 3
