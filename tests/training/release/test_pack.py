from __future__ import annotations

from pathlib import Path

import pytest
import torch

from builders.networks import CARD, small_model
from covid_ct_mask_net.checkpoints import load_model, save_checkpoint
from covid_ct_mask_net.errors import UntrustedModelError
from covid_ct_mask_net.training.release import pack as packing
from covid_ct_mask_net.training.release.pack import pack


def _saved(folder: Path) -> Path:
    model = small_model(seed=4)
    save_checkpoint(folder / "both.pt", CARD, model.detector, model.classifier)
    return folder / "both.pt"


def test_weights_are_packed_and_listed(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "MANIFEST.sha256").write_text("00  other.bin\n11  model.pt\n")
    path = pack(_saved(tmp_path), models)
    assert path.stat().st_size < 0.55 * (tmp_path / "both.pt").stat().st_size
    model = load_model(path, manifest_required=True)
    assert "synthetic" in model.report.trained_on
    assert (models / "MANIFEST.sha256").read_text().splitlines()[0] == "00  other.bin"
    before, after = load_model(tmp_path / "both.pt").classifier, model.classifier
    assert before is not None
    assert after is not None
    for mine, theirs in zip(after.parameters(), before.parameters(), strict=True):
        assert mine.dtype == torch.float32
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-6)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_BYTES", 1000)
    with pytest.raises(UntrustedModelError, match="larger"):
        pack(_saved(tmp_path), tmp_path / "models")


def test_both_networks_are_needed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "one.pt", CARD, small_model().detector, None)
    with pytest.raises(UntrustedModelError, match="both networks"):
        pack(tmp_path / "one.pt", tmp_path / "models")
