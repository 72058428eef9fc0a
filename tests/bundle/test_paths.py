from __future__ import annotations

from pathlib import Path

import pytest

from covid_ct_mask_net import paths
from covid_ct_mask_net.errors import UntrustedModelError


def test_the_bundle_of_this_installation() -> None:
    root = paths.bundle_root()
    assert (root / "configs" / "inference.yaml").is_file()
    assert (root / "LICENSE").is_file()


def test_a_package_without_its_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "package" / "paths.py"))
    with pytest.raises(UntrustedModelError, match="--bundle"):
        paths.bundle_root()
