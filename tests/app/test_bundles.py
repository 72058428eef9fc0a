"""Where a bundle is found, and what is said where it is not."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from covid_ct_mask_net.app.bundles import find_bundle
from covid_ct_mask_net.errors import UntrustedModelError
from covid_ct_mask_net.paths import bundle_root


def _bundle(folder: Path) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text("{}", encoding="utf-8")
    return folder


def _script(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/constants.pkl", b"")
    return path


def _refusal(path: Path) -> str:
    with pytest.raises(UntrustedModelError) as caught:
        find_bundle(path)
    assert caught.value.code == "BUNDLE_MISSING"
    assert "configs/metadata.json" in caught.value.sentence
    return caught.value.sentence


def test_a_bundle_folder_and_the_packaged_form(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "models" / "COVID-CT-Mask-Net")
    assert find_bundle(bundle) == bundle
    assert find_bundle(tmp_path / "models") == bundle


def test_a_torchscript_file_as_it_is_and_packaged(tmp_path: Path) -> None:
    script = _script(tmp_path / "models" / "COVID-CT-Mask-Net" / "model.ts")
    assert find_bundle(script) == script
    assert find_bundle(script.parent) == script
    assert find_bundle(tmp_path / "models") == script
    # A bundle folder may hold one beside its checkpoint.
    bundle = _bundle(tmp_path / "models" / "COVID-CT-Mask-Net")
    assert find_bundle(tmp_path / "models") == bundle


def test_nothing_named_means_the_installation() -> None:
    assert find_bundle(None) == bundle_root()


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in _refusal(tmp_path / "none")
    assert "holds no bundle" in _refusal(tmp_path)
    (tmp_path / "file.zip").touch()
    assert "is a file, but no TorchScript" in _refusal(tmp_path / "file.zip")
    (tmp_path / "model.ts").touch()
    assert "TorchScript files (*.ts)" in _refusal(tmp_path)
    for name in "ab":
        _script(tmp_path / "scripts" / f"{name}.ts")
    assert "holds 2 bundles" in _refusal(tmp_path / "scripts")
    _bundle(tmp_path / "models" / "first")
    _bundle(tmp_path / "models" / "second")
    assert "holds 2 bundles" in _refusal(tmp_path / "models")
