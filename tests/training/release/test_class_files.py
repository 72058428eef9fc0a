from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.release import class_files
from covid_ct_mask_net.training.release.class_slices import AS_READ, Draws
from covid_ct_mask_net.training.sources import classification_transforms, classified_slices


def test_slices_come_back_as_the_training_reads_them(tmp_path: Path) -> None:
    drawn = [(torch.rand(1, 20, 30 + number), number) for number in (2, 0, 1, 1)]
    assert class_files.write_slices(tmp_path / "slices", iter(drawn)) == 4
    records = classified_slices("covidx", tmp_path / "slices")
    assert sorted(one["slice_class"] for one in records) == [0, 1, 1, 2]
    assert len({one["patient"] for one in records}) == 4
    for record in records:
        image, slice_class = drawn[int(record["patient"]) - 1]
        assert record["slice_class"] == slice_class
        read = classification_transforms()(record)["image"]  # type: ignore[index]
        np.testing.assert_allclose(read, image, atol=0.5 / 255 + 1e-6)
    with pytest.raises(UsageError, match="slices exists already"):
        class_files.write_slices(tmp_path / "slices", [])


def test_a_folder_appears_when_all_slices_are_there(tmp_path: Path) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield torch.rand(1, 8, 8), 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        class_files.write_slices(tmp_path / "slices", broken())
    assert not (tmp_path / "slices").exists()
    assert class_files.write_slices(tmp_path / "slices", [(torch.rand(1, 8, 8), 0)]) == 1


def test_the_command_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    (tmp_path / "000.npz").touch()
    monkeypatch.setattr(class_files, "load_grounds", lambda *_: iter(["ground"]))
    monkeypatch.setattr(
        class_files, "class_slices", lambda *drawn: asked.append(drawn) or [(torch.rand(1, 8, 8), 2)]
    )
    class_files.main(["--chests", str(tmp_path), "--output", str(tmp_path / "slices"), "--draws", "5"])
    assert asked == [(["ground"], Draws(5))]
    folders = ["--chests", str(tmp_path), "--output", str(tmp_path / "others")]
    class_files.main([*folders, "--seed", "7", "--mass-share", "0.5"])
    assert asked[1] == (["ground"], Draws(seed=7, supply=replace(AS_READ, mass_share=0.5)))
    assert [path.name for path in (tmp_path / "slices").iterdir()] == ["NCP_1_1_0001.png"]
