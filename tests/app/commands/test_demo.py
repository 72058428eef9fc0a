from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from covid_ct_mask_net import __main__
from covid_ct_mask_net.__main__ import build_parser, main


def test_the_demo_is_two_commands_that_anybody_can_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[list[str]] = []

    def noted(step: Sequence[str]) -> int:
        steps.append(list(step))
        return 0 if step[0] == "synthesize" else 3

    arguments = build_parser().parse_args(["demo", "-o", str(tmp_path)])
    monkeypatch.setattr(__main__, "main", noted)
    assert arguments.run(arguments) == 3
    assert [step[0] for step in steps] == ["synthesize", "triage"]
    printed = capsys.readouterr().out
    for step in steps:
        assert f"$ covid-ct-mask-net {' '.join(step)}" in printed
        build_parser().parse_args(step)


@pytest.mark.slow
def test_the_demo_runs(tmp_path: Path) -> None:
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 0
    worklist = json.loads((tmp_path / "demo" / "results" / "worklist.json").read_text())
    assert [study["status"] for study in worklist["studies"]] == ["assessed"] * 3
    assert {study["class"] for study in worklist["studies"]} == {"Control", "Common Pneumonia", "COVID-19"}
    for study in worklist["studies"]:
        result = json.loads((tmp_path / "demo" / "results" / study["result"]).read_text())
        assert "synthetic lesions" in result["model"]["trained_on"]
        assert result["warnings"] == [], "the studies are such as the model was trained on"
        # Lesions were planted in the diseased ones and are found; the control study is negative.
        assert bool(result["lesions"]) == (study["class"] != "Control")
        assert result["triage"]["negative"] == (study["class"] == "Control")
