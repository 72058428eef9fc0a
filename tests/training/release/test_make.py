from __future__ import annotations

from pathlib import Path

import pytest

from covid_ct_mask_net.training.release import make as made
from covid_ct_mask_net.training.synthesis.cohort import CohortSettings


def test_steps_come_in_order_and_are_left_out_where_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    def writes(name: str):  # type: ignore[no-untyped-def]
        def run(arguments: list[str]) -> None:
            calls.append(name)
            Path(arguments[arguments.index("--output") + 1]).write_text("{}")

        return run

    def write_cohort(folder: Path, settings: CohortSettings) -> None:
        calls.append(f"{settings.patients} patients")
        folder.mkdir()

    monkeypatch.setattr(made, "make_phantoms", lambda _, count: calls.append(f"{count} phantoms"))
    monkeypatch.setattr(made.detector, "main", writes("detector"))
    monkeypatch.setattr(made.classifier, "main", writes("classifier"))
    monkeypatch.setattr(made.rule, "main", writes("rule"))
    monkeypatch.setattr(made, "write_cohort", write_cohort)
    monkeypatch.setattr(made, "pack", lambda *_: calls.append("pack"))
    arguments = ["--work", str(tmp_path), "--bundle", str(tmp_path / "bundle")]
    made.main(arguments)
    assert calls == ["48 phantoms", "detector", "24 patients", "42 patients", "classifier", "pack", "rule"]
    calls.clear()
    made.main(arguments)
    assert calls == ["48 phantoms", "pack", "rule"]
    assert "volume rule" in capsys.readouterr().out


def test_validation_and_test_share_no_patient() -> None:
    assert made.VALIDATION.seed != made.TEST.seed
