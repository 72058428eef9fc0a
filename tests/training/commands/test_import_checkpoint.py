"""``covid-ct-mask-net import-checkpoint``."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.original import original_state, write_original
from covid_ct_mask_net.__main__ import main
from covid_ct_mask_net.checkpoints import load_model
from covid_ct_mask_net.labels import MaskType


def _segmentation(path: Path) -> Path:
    return write_original(path, original_state("resnet18", 2, 2, s=None, masks=True))


def test_a_segmentation_and_a_classifier_become_one_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = original_state("resnet18", 2, 2, s=(128, 512), masks=False)
    old = [_segmentation(tmp_path / "s.pth"), write_original(tmp_path / "c.pth", classifier)]
    new = tmp_path / "new.pt"
    command = ["import-checkpoint", *map(str, old), str(new), "--two-classes", "ggo"]
    assert main([*command, "--name", "mine", "--trained-on", "CNCB"]) == 0
    printed = capsys.readouterr().out
    model = load_model(new)
    assert "lesion detector: resnet18 truncated by 2, mask type ggo" in printed
    assert "S reads 128 regions, 512 wide, 3 classes" in printed
    assert f"{model.report.sha256}  new.pt" in printed
    assert (model.report.name, model.report.trained_on) == ("mine", "CNCB")
    assert model.detector is not None
    assert model.detector.settings.mask_type is MaskType.GGO


def test_the_printed_line_is_what_a_manifest_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = _segmentation(tmp_path / "s.pth"), tmp_path / "new.pt"
    assert main(["import-checkpoint", str(old), str(new)]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    (tmp_path / "MANIFEST.sha256").write_text(line + "\n")
    assert load_model(new, manifest_required=True).detector is not None


def test_refusals_have_exit_code_5_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.pth").write_bytes(b"nothing")
    assert main(["import-checkpoint", str(tmp_path / "old.pth"), str(tmp_path / "new.pt")]) == 5
    assert capsys.readouterr().err.startswith("WEIGHTS_UNREADABLE: old.pth is not a complete file")
    assert not (tmp_path / "new.pt").exists()
    old = _segmentation(tmp_path / "s.pth")
    assert main(["import-checkpoint", str(old), str(old), str(tmp_path / "new.pt")]) == 2
