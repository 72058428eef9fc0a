"""The command that exports the bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.bundles import small_bundle
from covid_ct_mask_net.__main__ import main
from covid_ct_mask_net.checkpoints import file_sha256


def test_it_prints_the_hash_of_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = small_bundle(tmp_path / "small")
    assert main(["export-bundle", str(tmp_path / "dist"), "--bundle", str(bundle)]) == 0
    (archive,) = (tmp_path / "dist").iterdir()
    assert capsys.readouterr().out == f"{file_sha256(archive)}  {archive}\n"


def test_unlisted_weights_end_with_exit_code_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = small_bundle(tmp_path / "small")
    (bundle / "models" / "MANIFEST.sha256").unlink()
    assert main(["export-bundle", str(tmp_path / "dist"), "--bundle", str(bundle)]) == 5
    assert capsys.readouterr().err.startswith("WEIGHTS_UNLISTED: models/model.pt is in the bundle")
    assert not (tmp_path / "dist").exists()
