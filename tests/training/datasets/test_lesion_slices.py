from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.lesion_slices import folds, lesion_slices
from covid_ct_mask_net.training.datasets.read import ReadSliced


def test_the_labelled_slices(shared_data: Path) -> None:
    records = lesion_slices(shared_data / "lesion-slices")
    assert len(records) == 50
    assert [record["slice"] for record in records[:5]] == [0, 1, 2, 3, 4]
    first = ReadSliced()(records[0])
    assert first["image"].shape == (1, 273, 369)  # PIL's (width, height), turned: the spine points down
    assert [int((first["mask"] == label).sum()) for label in (1, 2)] == [8136, 27645]
    # Consolidation without GGO stays label 2.
    fifteenth = ReadSliced()(next(record for record in records if record["slice"] == 15))
    assert torch.unique(fifteenth["mask"]).tolist() == [0, 2]


def test_an_image_without_mask_or_number_is_named(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    with pytest.raises(RefusedInputError, match="no images"):
        lesion_slices(tmp_path)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "images" / "x.jpg")
    with pytest.raises(RefusedInputError, match=r"x\.jpg has no mask"):
        lesion_slices(tmp_path)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "masks" / "x.png")
    with pytest.raises(RefusedInputError, match=r"x\.jpg is not named by a number"):
        lesion_slices(tmp_path)


def test_slices_without_lesions_can_be_left_out(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, side in enumerate((0, 10, 11)):
        mask = np.zeros((32, 32), np.uint8)
        mask[:side, :side] = 1
        Image.fromarray(mask).save(tmp_path / "images" / f"{number}.jpg")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    assert len(lesion_slices(tmp_path)) == 3
    assert [record["slice"] for record in lesion_slices(tmp_path, lesions_only=True)] == [2]
    assert [record["slice"] for record in lesion_slices(tmp_path, lesions_only=True, minimum_area=0)] == [
        1,
        2,
    ]


def test_folds_share_no_patient_and_cover_all() -> None:
    records = [{"patient": str(index // 2), "file": index} for index in range(22)]
    pairs = folds(records, 5, seed=3)
    assert sorted(record["file"] for _, validation in pairs for record in validation) == list(range(22))
    for training, validation in pairs:
        assert not {r["patient"] for r in training} & {r["patient"] for r in validation}
        assert len(validation) in (4, 6)
    assert folds(list(reversed(records)), 5, seed=3)[0][1] == list(reversed(pairs[0][1]))
    assert folds(records, 5, seed=4) != pairs


def test_more_folds_than_patients_are_refused() -> None:
    with pytest.raises(UsageError, match="2 to 1"):
        folds([{"patient": "1"}], 2, seed=0)
