"""The slices that the networks read."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.transforms import CanonicalOrientationd, ExtractLungSlicesd

# Canonical [X, Y, Z] = [4, 3, 5]: the value tells where a voxel lies.
X, Y, Z = torch.meshgrid(torch.arange(4.0), torch.arange(3.0), torch.arange(5.0), indexing="ij")
VOLUME = X + 10 * Y + 100 * Z
AFFINE = torch.diag(torch.tensor([-2.0, -3.0, 5.0, 1.0], dtype=torch.float64))


def _data(*lung_pixels: int) -> dict:
    """A volume whose slice k has ``lung_pixels[k]`` pixels of lung, of 6 mm2 each."""
    lungs = torch.zeros(1, 4, 3, 5, dtype=torch.uint8)
    for k, count in enumerate(lung_pixels):
        for index in range(count):
            lungs[0, index // 3, index % 3, k] = 1 + index % 2
    return {
        "image": MetaTensor(VOLUME[None].clone(), affine=AFFINE),
        "lung_mask": MetaTensor(lungs, affine=AFFINE),
    }


def test_slices_with_enough_lung_from_inferior_to_superior() -> None:
    out = ExtractLungSlicesd(least_area_mm2=18.0)(_data(2, 3, 0, 12, 4))
    assert out["slice_indices"].tolist() == [1, 3, 4]
    assert out["slice_indices"].dtype == torch.int64
    assert out["slices"].shape == (3, 1, 3, 4)


def test_rows_run_to_posterior_and_columns_to_the_left() -> None:
    out = ExtractLungSlicesd(least_area_mm2=6.0)(_data(0, 0, 12, 0, 0))
    (shown,) = out["slices"][:][:, 0]
    for row in range(3):
        for column in range(4):
            assert shown[row, column] == column + 10 * row + 200


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_values_are_plain_tensors_in_one_piece_and_the_volume_stays(dtype: torch.dtype) -> None:
    data = _data(12, 12, 12, 12, 12)
    data["image"] = data["image"].to(dtype)
    before = data["image"].clone()
    out = ExtractLungSlicesd(least_area_mm2=1.0)(data)
    for given in (out["slices"][:], out["slices"][[3, 1]], out["slices"][2]):
        assert type(given) is torch.Tensor
        assert given.is_contiguous()
        assert given.dtype == torch.float32
        given += 1.0
    assert out["image"] is data["image"]
    assert torch.equal(data["image"].as_tensor(), before.as_tensor())


def test_the_area_counts_both_lungs_in_mm2() -> None:
    """Two pixels of 6 mm2, one of each side."""
    for least, found in ((12.0, [1]), (12.1, None)):
        data = _data(0, 2, 0, 0, 0)
        if found is None:
            with pytest.raises(NotAssessableError, match="12 mm2 of lung") as caught:
                ExtractLungSlicesd(least_area_mm2=least)(data)
            assert caught.value.code == "NOT_CHEST"
        else:
            assert ExtractLungSlicesd(least_area_mm2=least)(data)["slice_indices"].tolist() == found


def test_keys_are_settings() -> None:
    data = _data(12, 0, 0, 0, 0)
    renamed = {"volume": data["image"], "lungs": data["lung_mask"]}
    out = ExtractLungSlicesd(image_key="volume", mask_key="lungs", least_area_mm2=1.0)(renamed)
    assert out["slice_indices"].tolist() == [0]


def test_slices_may_be_cropped_to_the_lungs_and_say_so() -> None:
    lungs = torch.zeros(1, 100, 90, 6, dtype=torch.uint8)
    lungs[0, 40:60, 30:50, 1:5] = 1
    volume = torch.arange(100 * 90 * 6, dtype=torch.float32).reshape(1, 100, 90, 6)
    data = {"image": MetaTensor(volume, affine=AFFINE), "lung_mask": MetaTensor(lungs, affine=AFFINE)}
    whole = ExtractLungSlicesd(least_area_mm2=1.0)(data)
    cropped = ExtractLungSlicesd(least_area_mm2=1.0, crop="lungs", margin_mm=6.0)(data)
    box = cropped["slice_crop"]
    assert cropped["slices"].shape == (4, 1, box.height, box.width)
    assert box.height % 32 == box.width % 32 == 0
    # Rows of 3 mm, columns of 2 mm: the margin is 2 rows and 3 columns.
    assert box.top <= 28
    assert box.top + box.height >= 52
    assert box.left <= 37
    assert box.left + box.width >= 63
    part = whole["slices"][:][:, :, box.top : box.top + box.height, box.left : box.left + box.width]
    assert torch.equal(cropped["slices"][:], part)
    assert whole["slice_crop"].height == 90
    assert whole["slice_crop"].width == 100


def test_unknown_crops_are_refused() -> None:
    with pytest.raises(UsageError, match="none or lungs"):
        ExtractLungSlicesd(crop="heart")


def test_only_slices_that_may_be_read_are_cut_out() -> None:
    """Slices lie 5 mm apart."""
    data = _data(12, 12, 0, 12, 12)
    out = ExtractLungSlicesd(least_area_mm2=1.0, sampling="every=10")(data)
    assert out["slice_indices"].tolist() == [0, 3]
    assert len(out["slices"]) == 2
    assert out["slices"][1][0, 0, 0] == 300
    assert out["slice_sampling"].lung_slices == (0, 1, 3, 4)
    whole = ExtractLungSlicesd(least_area_mm2=1.0)(data)
    assert whole["slice_indices"].tolist() == [0, 1, 3, 4]
    assert not whole["slice_sampling"].may_stop
    with pytest.raises(UsageError, match="slices is 'some'"):
        ExtractLungSlicesd(sampling="some")


@pytest.mark.parametrize(("up", "read"), [(True, [0, 2, 3]), (False, [0, 1, 3])])
def test_interpolated_slices_of_the_source_are_not_read(up: bool, read: list[int]) -> None:
    source = torch.diag(torch.tensor([2.0, 3.0, 5.0 if up else -5.0, 1.0], dtype=torch.float64))
    data = _data(12, 12, 12, 12, 0)
    lungs = data["lung_mask"].as_tensor()
    data = CanonicalOrientationd(["image", "lung_mask"])(
        {
            "image": MetaTensor(VOLUME[None].clone(), affine=source),
            "lung_mask": MetaTensor(lungs if up else lungs.flip(3), affine=source),
            "interpolated_slices": (1,) if up else (2,),
        }
    )
    out = ExtractLungSlicesd(least_area_mm2=18.0)(data)
    assert out["slice_indices"].tolist() == read
    assert len(out["slices"]) == 3
    assert out["slice_sampling"].lung_slices == (0, 1, 2, 3)


def test_slices_that_show_nothing_are_not_read() -> None:
    data = CanonicalOrientationd(["image", "lung_mask"])({**_data(12, 12, 12, 12, 0), "blank_slices": (1,)})
    extract = ExtractLungSlicesd(least_area_mm2=18.0)
    assert extract(data)["slice_indices"].tolist() == [0, 2, 3]
    assert extract({**data, "interpolated_slices": (2,)})["slice_indices"].tolist() == [0, 3]


def test_lungs_on_interpolated_slices_alone_are_declined() -> None:
    data = CanonicalOrientationd(["image", "lung_mask"])(_data(0, 12, 0, 0, 0))
    with pytest.raises(NotAssessableError) as caught:
        ExtractLungSlicesd(least_area_mm2=18.0)({**data, "interpolated_slices": (1,)})
    assert caught.value.code == "SLICE_GAP"
