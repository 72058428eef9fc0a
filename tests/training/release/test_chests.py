from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.release import chests


def test_phantoms_are_stored_once_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chests, "SIZE", 64)
    monkeypatch.setattr(chests, "_STEPS_MM", (30.0,))
    chests.make_phantoms(tmp_path, 2)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(written) == ["000.npz", "001.npz"]
    chests.make_phantoms(tmp_path, 2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == written
    first, second = chests.load_grounds(tmp_path, None)
    assert not first.real
    assert first.chest.hu.shape[1:] == (64, 64)
    assert not np.array_equal(first.chest.hu[5], second.chest.hu[5])
    assert all(np.count_nonzero(first.chest.lungs[k]) for k in first.slices)
    assert first.chest.roots is not None


def test_records_name_phantoms_and_slices_of_real_chests(tmp_path: Path) -> None:
    phantoms, real = tmp_path / "phantoms", tmp_path / "real"
    phantoms.mkdir()
    with pytest.raises(UsageError, match=r"no phantoms \(NNN.npz\) in .*phantoms; make some by python -m"):
        chests.chest_records(phantoms, None)
    (phantoms / "000.npz").touch()
    assert [one["file"] for one in chests.chest_records(phantoms, None)] == ["000.npz"]
    with pytest.raises(UsageError, match=r"no folder .*lung-dx-a0001"):
        chests.chest_records(phantoms, real)
    for name in chests.REAL_SLICES:
        (real / name).mkdir(parents=True)
    files = [one["file"] for one in chests.chest_records(phantoms, real)]
    assert len(files) == 1 + sum(len(slices) for slices in chests.REAL_SLICES.values())
    assert "lung-dx-a0002#0026" in files


def test_the_command_makes_phantoms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(chests, "make_phantoms", lambda *given: made.append(given))
    chests.main(["--output", str(tmp_path)])
    chests.main(["--output", str(tmp_path), "--emphysema-share", "0.5"])
    chests.main(["--output", str(tmp_path), "--first", "48", "--count", "12"])
    assert made == [(tmp_path, 48, 0, 0.2), (tmp_path, 48, 0, 0.5), (tmp_path, 60, 48, 0.2)]


def test_the_patient_of_the_test_is_not_trained_on() -> None:
    assert not any("01068" in name for name in chests.REAL_SLICES)
