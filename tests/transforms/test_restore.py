"""From the canonical volume back to the grid of the source file."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.transforms import LoadImage

from builders.dicom import phantom_hu
from covid_ct_mask_net.transforms import CanonicalOrientationd, RestoreSourceGridd

# Stored with axes to anterior, inferior, left, as nothing in a hospital does.
ODD = np.array([[0, 0, -2.0, 20], [2.5, 0, 0, -90], [0, -4.0, 0, 300], [0, 0, 0, 1.0]])


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "odd.nii.gz"
    nibabel.Nifti1Image(phantom_hu((9, 10, 11)), ODD).to_filename(path)
    return path


def test_the_way_back_is_exact(volume: Path) -> None:
    loaded = LoadImage(image_only=True, ensure_channel_first=True)(volume)
    canonical = CanonicalOrientationd(keys="volume")({"volume": loaded})
    assert tuple(canonical["volume"].shape) != tuple(loaded.shape)
    restored = RestoreSourceGridd(keys="volume")(canonical)["volume"]
    stored = nibabel.load(volume)
    assert np.array_equal(restored[0].numpy(), stored.get_fdata(dtype=np.float32))
    assert np.array_equal(np.asarray(restored.affine), stored.affine)


def test_a_declined_volume_has_no_mask_to_restore() -> None:
    data = {"declined": "reason"}
    assert RestoreSourceGridd(keys="lesion_mask", allow_missing_keys=True)(data) == data
    with pytest.raises(KeyError):
        RestoreSourceGridd(keys="lesion_mask")(data)


def test_the_given_data_stay_canonical(volume: Path) -> None:
    loaded = LoadImage(image_only=True, ensure_channel_first=True)(volume)
    canonical = CanonicalOrientationd(keys="volume")({"volume": loaded})
    before = canonical["volume"].clone()
    RestoreSourceGridd(keys="volume")(canonical)
    assert np.array_equal(canonical["volume"].numpy(), before.numpy())
    assert np.array_equal(np.asarray(canonical["volume"].affine), np.asarray(before.affine))
