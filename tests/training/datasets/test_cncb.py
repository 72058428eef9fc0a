from __future__ import annotations

from pathlib import Path

import pytest
import torch

from builders.lesion_data import make_cncb
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.training.datasets.cncb import cncb_segmentation
from covid_ct_mask_net.training.datasets.read import ReadSliced


def test_lungs_become_background_and_lesions_keep_their_value(tmp_path: Path) -> None:
    root = make_cncb(tmp_path)
    records = cncb_segmentation(root / "images", root / "masks")
    found = {r["file"]: torch.unique(ReadSliced()(r)["mask"]).tolist() for r in records}
    # Both lesions; lungs only; consolidation without GGO stays 2: ids are by value.
    assert found == {
        "0_3.jpg": [0, 1, 2], "0_13.jpg": [0], "1_3.jpg": [0, 1, 2],
        "1_13.jpg": [0, 1], "2_3.jpg": [0, 2], "2_13.jpg": [0, 1],
    }  # fmt: skip


def test_a_list_chooses_slices_and_patients_come_from_names(tmp_path: Path) -> None:
    root = make_cncb(tmp_path)
    (root / "two.txt").write_text("2_3.jpg\n0_13.jpg\n")
    records = cncb_segmentation(root / "images", root / "masks", root / "two.txt")
    assert sorted((record["patient"], record["slice"]) for record in records) == [("0", 13), ("2", 3)]
    assert all(Path(r["image"]).stem == Path(r["mask"]).stem for r in records)


def test_slices_without_lesions_can_be_left_out(tmp_path: Path) -> None:
    """Paper D1. GGO has 168 pixels, consolidation 143: what is no lesion for the training is none here."""
    root = make_cncb(tmp_path)
    images, masks = root / "images", root / "masks"
    files = {one["file"] for one in cncb_segmentation(images, masks, lesions_only=True)}
    assert files == {"0_3.jpg", "1_3.jpg", "1_13.jpg", "2_3.jpg", "2_13.jpg"}
    files = {one["file"] for one in cncb_segmentation(images, masks, lesions_only=True, minimum_area=150)}
    assert files == {"0_3.jpg", "1_3.jpg", "1_13.jpg", "2_13.jpg"}
    (root / "two.txt").write_text("0_3.jpg\n0_13.jpg\n")
    listed = cncb_segmentation(images, masks, root / "two.txt", lesions_only=True, mask_type="ggo")
    assert [one["file"] for one in listed] == ["0_3.jpg"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = make_cncb(tmp_path)
    (root / "masks" / "1_3.png").unlink()
    with pytest.raises(RefusedInputError, match=r"1_3\.jpg has no mask"):
        cncb_segmentation(root / "images", root / "masks")
    with pytest.raises(RefusedInputError, match=r"1_3\.jpg is listed.*1 of 6 listed masks"):
        cncb_segmentation(root / "images", root / "masks", root / "list.txt")


def test_a_value_outside_the_map_names_the_mask(tmp_path: Path) -> None:
    root = make_cncb(tmp_path, strange_value=True)
    record = cncb_segmentation(root / "images", root / "masks")[1]
    with pytest.raises(RefusedInputError, match=r"0_3\.png holds the value 9, but only 0, 1, 2, 3"):
        ReadSliced()(record)


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(RefusedInputError, match="no images"):
        cncb_segmentation(tmp_path / "images", tmp_path / "masks")
