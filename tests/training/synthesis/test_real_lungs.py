from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.synthesis.dicom_files import SeriesText, write_series
from covid_ct_mask_net.training.synthesis.phantom import Chest
from covid_ct_mask_net.training.synthesis.real_lungs import read_real_chests

TEXT = SeriesText("SYN-1", "1", "CHEST", "LUNG")


def test_a_series_is_read_back_with_its_lungs(tmp_path: Path, chest: Chest) -> None:
    write_series(tmp_path / "series", np.rint(chest.hu).clip(-1024, 3071), chest.grid, TEXT)
    (tmp_path / "notes.txt").write_text("not DICOM")
    (read,) = read_real_chests(tmp_path)
    assert np.array_equal(read.hu, np.rint(chest.hu).clip(-1024, 3071))
    assert np.allclose(read.grid.spacing, chest.grid.spacing, atol=1e-4)
    assert np.allclose(read.grid.origin, chest.grid.origin, atol=1e-3)
    both = np.count_nonzero((read.lungs > 0) & (chest.lungs > 0))
    assert 2 * both / ((read.lungs > 0).sum() + (chest.lungs > 0).sum()) > 0.9


def test_folders_without_a_chest_are_refused(tmp_path: Path, chest: Chest) -> None:
    with pytest.raises(UsageError) as missing:
        read_real_chests(tmp_path / "none")
    assert missing.value.code == "FOLDER_MISSING"
    write_series(tmp_path / "short", chest.hu[:8], chest.grid, TEXT)
    with pytest.raises(RefusedInputError) as refused:
        read_real_chests(tmp_path)
    assert refused.value.code == "NO_REAL_CHEST"


def test_real_series_with_two_kernels_are_two_chests(shared_data: Path) -> None:
    chests = read_real_chests(shared_data / "chest-ct-dicom" / "lung-dx-a0002")
    assert [chest.hu.shape for chest in chests] == [(30, 512, 512)] * 2
    for chest in chests:
        assert 2000 < np.count_nonzero(chest.lungs) * chest.grid.voxel_ml < 4000
        assert chest.hu.min() >= -1024
