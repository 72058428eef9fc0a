from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.training.datasets.read import ReadSliced
from covid_ct_mask_net.training.datasets.volumes import INFECTION_MASK_VALUES, lesion_volumes

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
RAS = np.eye(4)


def _write(root: Path, affine: np.ndarray, flipped: bool, *, depth: int = 3) -> Path:
    """Write one volume whose voxel at right-anterior-foot is 400 HU; ``flipped`` stores it in LPS order."""
    volume = np.full((4, 5, depth), -1350, dtype=np.int16)  # R, A, S
    mask = np.zeros(volume.shape, dtype=np.uint8)
    volume[3, 4, 0], mask[3, 4, 0] = 150, 1
    if flipped:
        volume, mask = volume[::-1, ::-1], mask[::-1, ::-1]
    for name, data in (("images/a.nii.gz", volume), ("masks/a_mask.nii.gz", mask)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(data), affine), path)
    return root


@pytest.mark.parametrize(("affine", "flipped"), [(RAS, False), (LPS, True)])
def test_slices_are_in_radiological_orientation_whatever_the_axes(
    tmp_path: Path, affine: np.ndarray, flipped: bool
) -> None:
    root = _write(tmp_path, affine, flipped)
    records = lesion_volumes(root / "images", root / "masks", mask_suffix="_mask")
    assert [record["slice"] for record in records] == [0, 1, 2]
    first = ReadSliced()(records[0])
    # Patient right at column 0, anterior at row 0; 150 HU is the upper end of the lung window.
    assert first["image"].shape == (1, 5, 4)
    assert first["image"][0, 0, 0] == 1
    assert first["image"].sum() == 1
    assert torch.equal(first["mask"] == 1, first["image"] == 1)


def test_lesion_slices_only_and_classes_by_volume(tmp_path: Path) -> None:
    root = _write(tmp_path, RAS, False)
    records = lesion_volumes(
        root / "images", root / "masks", mask_suffix="_mask", mask_values=INFECTION_MASK_VALUES,
        slice_classes={"a": 2}, lesions_only=True,
    )  # fmt: skip
    assert [(record["slice"], record["slice_class"], record["file"]) for record in records] == [
        (0, 2, "a#0000")
    ]


def test_volume_and_mask_of_different_shape_are_refused(tmp_path: Path) -> None:
    root = _write(tmp_path, RAS, False)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 2), np.uint8), RAS), root / "masks" / "a_mask.nii.gz")
    with pytest.raises(RefusedInputError, match=r"a_mask\.nii\.gz has 4 x 5 x 2 voxels.*4 x 5 x 3"):
        lesion_volumes(root / "images", root / "masks", mask_suffix="_mask")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(RefusedInputError, match="no NIfTI volumes"):
        lesion_volumes(tmp_path / "images", tmp_path / "masks")
