from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, PersistentDataset
from PIL import Image

from builders.lesion_data import make_cncb
from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.cncb import cncb_segmentation
from covid_ct_mask_net.training.datasets.read import (
    ReadSliced,
    read_grey_image,
    read_mask,
    read_volume_slice,
    volume_shape,
)
from covid_ct_mask_net.training.datasets.records import make_record

LESIONS = {0: 0, 1: 1, 2: 2}


def test_palette_masks_are_read_by_index_and_transposed_slices_turned(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [0, 0, 1]], dtype=np.uint8)
    mask = Image.fromarray(labels, mode=None).convert("P")
    mask.putdata(labels.ravel().tolist())
    mask.putpalette([0, 0, 0, 255, 0, 0, 255, 255, 255])
    mask.save(tmp_path / "m.png")
    Image.fromarray(np.array([[0, 51, 255], [0, 0, 102]], np.uint8)).save(tmp_path / "i.png")
    record = make_record(
        tmp_path / "i.png", mask=tmp_path / "m.png", patient="1", scan="1", slice_index=0, transposed=True
    )
    result = ReadSliced()(record)
    assert result["mask"].tolist() == [[[0, 0], [1, 0], [2, 1]]]
    np.testing.assert_allclose(result["image"], [[[0, 0], [0.2, 0], [1, 0.4]]])
    assert result["image"].dtype == torch.float32
    assert result["mask"].dtype == torch.uint8
    assert set(result) == {"image", "mask", "file", "patient", "scan", "slice"}


def test_sixteen_bit_and_colour_images(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "16.png")
    assert read_grey_image(tmp_path / "16.png").tolist() == [[0, 1]]
    Image.fromarray(np.full((2, 2, 3), 255, np.uint8)).save(tmp_path / "rgb.png")
    assert read_grey_image(tmp_path / "rgb.png").tolist() == [[1, 1], [1, 1]]


def test_deep_images_are_never_cut_off_at_255(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (2, 1), np.array([[0, 65535]], ">u2").tobytes()).save(tmp_path / "be.tif")
    assert read_grey_image(tmp_path / "be.tif").tolist() == [[0, 1]]
    for dtype in (np.int32, np.float32):
        Image.fromarray(np.array([[0, 70000]], dtype)).save(tmp_path / "deep.tif")
        with pytest.raises(
            RefusedInputError, match=rf"deep\.tif has {np.dtype(dtype)} values.* 8- or 16-bit"
        ):
            read_grey_image(tmp_path / "deep.tif")


@pytest.mark.parametrize(("level", "width"), [(-600, 0), (-600, -1), (float("nan"), 1500), (0, float("inf"))])
def test_windows_that_are_none_are_refused(level: float, width: float) -> None:
    with pytest.raises(UsageError, match="numbers with a width above 0"):
        ReadSliced(level, width)


def test_a_smeared_jpeg_mask_and_a_colour_mask_are_refused(tmp_path: Path) -> None:
    labels = np.zeros((16, 16), np.uint8)
    labels[3:9, 3:9] = 200
    Image.fromarray(labels).save(tmp_path / "m.jpg", quality=30)
    with pytest.raises(RefusedInputError, match=r"m\.jpg holds the value") as caught:
        read_mask(tmp_path / "m.jpg", {0: 0, 200: 1})
    assert caught.value.code == "MASK_VALUE"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(RefusedInputError, match=r"c\.png has 3 dimensions"):
        read_mask(tmp_path / "c.png", LESIONS)


def test_missing_broken_and_mismatched_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RefusedInputError, match=r"none\.png is missing"):
        read_grey_image(tmp_path / "none.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(RefusedInputError, match=r"broken\.png cannot be read"):
        read_grey_image(tmp_path / "broken.png")
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "i.png")
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(tmp_path / "m.png")
    record = make_record(tmp_path / "i.png", mask=tmp_path / "m.png", patient="1", scan="1", slice_index=0)
    with pytest.raises(RefusedInputError, match=r"m\.png has 5 x 4 pixels .*4 x 5"):
        ReadSliced()(record)


def test_volumes_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedInputError, match=r"no\.nii"):
        read_volume_slice(tmp_path / "no.nii", 0)
    (tmp_path / "bad.nii.gz").write_bytes(b"nothing of the kind")
    with pytest.raises(RefusedInputError, match=r"bad\.nii\.gz cannot be read"):
        volume_shape(tmp_path / "bad.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2), np.uint8), np.eye(4)), tmp_path / "flat.nii")
    with pytest.raises(RefusedInputError, match=r"flat\.nii has 2 dimensions"):
        volume_shape(tmp_path / "flat.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "deep.nii")
    with pytest.raises(RefusedInputError, match="slice 5 was asked for"):
        read_volume_slice(tmp_path / "deep.nii", 5)


def test_records_work_with_monai_caches(tmp_path: Path) -> None:
    root = make_cncb(tmp_path / "data")
    records = cncb_segmentation(root / "images", root / "masks")
    cached = CacheDataset(records, ReadSliced(), num_workers=0, progress=False)
    kept = PersistentDataset(records, ReadSliced(), cache_dir=tmp_path / "cache")
    for one, other in zip(cached, kept, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])
