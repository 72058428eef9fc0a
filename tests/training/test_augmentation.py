from __future__ import annotations

import pytest
import torch

from builders.lesion_data import chest_slice, lesion_mask
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.augmentation import (
    RandLungBoxCropd,
    RandWindowShiftd,
    shifted_window,
    slice_augmentation,
)


def _data() -> dict[str, torch.Tensor]:
    mask = torch.from_numpy(lesion_mask()).clamp(min=1) - 1
    return {"image": torch.from_numpy(chest_slice()).float()[None] / 255, "mask": mask[None]}


def test_all_steps_keep_shape_type_and_labels_together() -> None:
    for seed in range(5):
        result = slice_augmentation(1.0, seed)(_data())
        image, mask = result["image"], result["mask"]
        assert image.shape == mask.shape
        assert image.dtype == torch.float32
        assert float(image.min()) >= 0
        assert float(image.max()) <= 1
        assert set(torch.unique(mask).tolist()) == {0, 1, 2}
        assert mask.dtype == torch.uint8


def test_the_seed_decides_and_probability_zero_changes_nothing() -> None:
    first, second = slice_augmentation(1.0, 7)(_data()), slice_augmentation(1.0, 7)(_data())
    assert torch.equal(first["image"], second["image"])
    assert first["image"].shape != slice_augmentation(1.0, 8)(_data())["image"].shape
    assert torch.equal(slice_augmentation(0.0)(_data())["image"], _data()["image"])
    with pytest.raises(UsageError, match=r"1\.5"):
        slice_augmentation(1.5)


def test_the_crop_is_near_the_body_and_cuts_no_lesion_off() -> None:
    crop = RandLungBoxCropd(prob=1.0, margin=0.0)
    result = crop(_data())
    # The body is 0.9 of the slice wide and 0.76 high.
    assert result["image"].shape[1:] == (48, 56) or abs(result["image"].shape[1] - 48) <= 2
    data = _data()
    data["mask"][0, 0, 0] = 2
    assert RandLungBoxCropd(prob=1.0, margin=0.0)(data)["mask"][0, 0, 0] == 2


def test_a_crop_works_without_mask_and_without_body() -> None:
    assert "mask" not in RandLungBoxCropd(prob=1.0)({"image": _data()["image"]})
    assert RandLungBoxCropd(prob=1.0)({"image": torch.zeros(1, 20, 30)})["image"].shape == (1, 20, 30)


def test_window_shift_moves_and_clips() -> None:
    image = torch.tensor([0.0, 0.5, 1.0])
    assert shifted_window(image, 0.1).tolist() == pytest.approx([0, 0.4, 0.9])
    assert shifted_window(image, 0.0, 0.5).tolist() == [0, 0.5, 1]
    assert shifted_window(image, 0.0, 2.0).tolist() == [0.25, 0.5, 0.75]
    shifted = RandWindowShiftd(prob=1.0).set_random_state(1)({"image": image})["image"]
    assert not torch.equal(shifted, image)
