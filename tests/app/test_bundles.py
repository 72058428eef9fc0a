"""Where a bundle is found, and what is said where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from covid_ct_mask_net.app.bundles import find_bundle
from covid_ct_mask_net.errors import UntrustedModelError
from covid_ct_mask_net.paths import bundle_root


def _bundle(folder: Path) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text("{}", encoding="utf-8")
    return folder


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


def test_nothing_named_means_the_installation() -> None:
    assert find_bundle(None) == bundle_root()


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in _refusal(tmp_path / "none")
    assert "holds no bundle" in _refusal(tmp_path)
    (tmp_path / "file.zip").touch()
    assert "is a file" in _refusal(tmp_path / "file.zip")
    _bundle(tmp_path / "models" / "first")
    _bundle(tmp_path / "models" / "second")
    assert "holds 2 bundles" in _refusal(tmp_path / "models")
