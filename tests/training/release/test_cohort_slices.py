from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.training.release.cohort_slices import cohort_records, cohort_slices


def _write(folder: Path, patient: str, *, lesion: bool) -> None:
    hu, labels = np.full((12, 10, 20), -1350, dtype=np.int16), np.zeros((12, 10, 20), dtype=np.uint8)
    if lesion:
        labels[3, 7, 5:15] = 2
        hu[3, 7, 5:15] = 150
    for kind, voxels in (("images", hu), ("masks", labels)):
        (folder / kind).mkdir(exist_ok=True)
        nibabel.Nifti1Image(voxels, np.diag([-1.0, -1, 1, 1])).to_filename(
            folder / kind / f"{patient}.nii.gz"
        )


def test_slices_show_lesions_where_there_are_any(tmp_path: Path) -> None:
    _write(tmp_path, "0000", lesion=False)
    _write(tmp_path, "0001", lesion=True)
    slices = list(cohort_slices(tmp_path, a_patient=2))
    assert [patient for _, patient, _, _ in slices] == ["0000", "0000", "0001", "0001"]
    for _, patient, image, labels in slices:
        assert image.shape == labels.shape == (10, 12)
        assert (labels[7, 3] == 2) == (patient == "0001")
        assert image[7, 3] == (1.0 if patient == "0001" else 0.0)
        assert image[0, 0] == 0.0
    records = cohort_records(tmp_path, a_patient=2)
    assert [f"{one['patient']}/{one['slice']}" for one in records] == [name for name, *_ in slices]


def test_a_folder_without_scans_is_named(tmp_path: Path) -> None:
    with pytest.raises(RefusedInputError, match="images"):
        list(cohort_slices(tmp_path))
