"""The command that packages the application."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.bundles import small_bundle
from covid_ct_mask_net.__main__ import main


def test_staging_prints_the_manifests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, destination = small_bundle(tmp_path / "bundle"), tmp_path / "staged"
    assert main(["package", "--stage-only", str(destination), "--bundle", str(bundle)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["app.json"] == json.loads((destination / "map" / "app.json").read_text(encoding="utf-8"))
    assert list(printed["pkg.json"]["models"]) == ["COVID-CT-Mask-Net"]


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["package", "--stage-only", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("NOT_EMPTY")
    assert not list(tmp_path.iterdir())
