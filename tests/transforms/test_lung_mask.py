"""The lung mask as a transform, and whether its lungs can be assessed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from builders.chest import Chest, make_chest
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.transforms import LungMaskd
from covid_ct_mask_net.transforms.lung_mask import body_range

CHEST = make_chest()


def _data(chest: Chest) -> dict:
    volume = MetaTensor(
        torch.from_numpy(chest.hu)[None], affine=torch.as_tensor(chest.affine), meta={"source_affine": "kept"}
    )
    return {"volume": volume}


def _areas(*areas: int) -> np.ndarray:
    """Lungs of 10 x 10 pixels with this many pixels on each slice."""
    lungs = np.zeros((100, 1, len(areas)), np.uint8)
    for k, area in enumerate(areas):
        lungs[:area, 0, k] = 1
    return lungs


# 100 ml a slice of 100 pixels.
AFFINE = np.diag([-10.0, -20.0, 5.0, 1.0])


def test_blank_slices_at_the_ends_do_not_hide_that_the_lungs_are_cut_off() -> None:
    data = _data(CHEST)
    # The largest area of the lungs is the end of what is shown.
    lungs = np.array([np.count_nonzero(plane) for plane in CHEST.lungs.transpose(2, 1, 0)])
    end = int(lungs.argmax()) + 1
    blank = tuple(range(end, CHEST.hu.shape[2]))
    data["volume"] = data["volume"].clone()
    data["volume"][..., end:] = 0.0
    with pytest.raises(NotAssessableError) as caught:
        LungMaskd(keys="volume")({**data, "blank_slices": blank})
    assert caught.value.code == "LUNG_TRUNCATED"
    whole = _data(CHEST)
    whole["volume"][..., :1] = 0.0
    mask = LungMaskd(keys="volume")({**whole, "blank_slices": (0,)})["lung_mask"]
    assert mask.shape == whole["volume"].shape
    assert not mask[..., 0].any()


def test_too_few_slices_that_show_something_are_declined() -> None:
    data = {**_data(CHEST), "blank_slices": tuple(range(15, CHEST.hu.shape[2]))}
    with pytest.raises(NotAssessableError) as caught:
        LungMaskd(keys="volume")(data)
    assert caught.value.code == "TOO_FEW_SLICES"


def test_the_mask_lies_on_the_grid_of_the_volume() -> None:
    masked = LungMaskd(keys="volume")(_data(CHEST))
    mask, volume = masked["lung_mask"], masked["volume"]
    assert mask.shape == volume.shape
    assert mask.dtype == torch.uint8
    assert set(mask.unique().tolist()) == {0, 1, 2}
    assert torch.equal(mask.affine, volume.affine)
    assert mask.meta["source_affine"] == "kept"
    assert masked["warnings"] == ()


def test_earlier_warnings_are_kept() -> None:
    masked = LungMaskd(keys="volume", mask_key="lungs")({**_data(CHEST), "warnings": ("before",)})
    assert masked["warnings"] == ("before",)
    assert "lungs" in masked


def test_too_few_slices_are_no_volume() -> None:
    data = {"volume": MetaTensor(torch.zeros(1, 8, 8, 15), affine=torch.eye(4, dtype=torch.float64))}
    with pytest.raises(NotAssessableError, match="15 slices; at least 16") as caught:
        LungMaskd(keys="volume")(data)
    assert caught.value.code == "TOO_FEW_SLICES"


@pytest.mark.parametrize("properties", [{"bottom": -330.0, "extent": (380.0, 280.0, 320.0)}])
def test_an_abdomen_is_no_chest(properties: dict) -> None:
    with pytest.raises(NotAssessableError, match="ml of lung are in the field of view") as caught:
        LungMaskd(keys="volume")(_data(make_chest(**properties)))
    assert caught.value.code == "NOT_CHEST"


def test_the_least_volume_is_a_setting() -> None:
    # Two slices of 100 pixels, 1 ml a pixel.
    lungs = _areas(0, 100, 100, 0)
    assert LungMaskd(keys="volume", least_lung_ml=200.0).check(lungs, AFFINE) == ()
    with pytest.raises(NotAssessableError, match="200 ml of lung"):
        LungMaskd(keys="volume", least_lung_ml=200.5).check(lungs, AFFINE)


@pytest.mark.parametrize(
    ("first", "last", "codes"),
    [
        (0, 0, []),
        (24, 0, []),
        (25, 0, ["lowest"]),
        (0, 25, ["highest"]),
        (74, 74, ["lowest", "highest"]),
        (75, 0, None),
        (0, 100, None),
    ],
)
def test_cut_off_lungs_get_a_warning_and_from_a_limit_on_no_assessment(
    first: int, last: int, codes: list[str] | None
) -> None:
    lungs = _areas(first, *[100] * 20, last)
    mask = LungMaskd(keys="volume")
    if codes is None:
        with pytest.raises(NotAssessableError) as caught:
            mask.check(lungs, AFFINE)
        assert caught.value.code == "LUNG_TRUNCATED"
        return
    warnings = mask.check(lungs, AFFINE)
    assert [w.code for w in warnings] == ["LUNG_TRUNCATED"] * len(codes)
    assert all(f"at the {end} slice" in w.sentence for w, end in zip(warnings, codes, strict=True))


def test_a_half_scanned_chest_is_cut_off() -> None:
    with pytest.raises(NotAssessableError, match="lowest slice") as caught:
        LungMaskd(keys="volume")(_data(make_chest(bottom=110.0)))
    assert caught.value.code == "LUNG_TRUNCATED"


def _beside_air(chest: Chest, *, below: int, table: bool = True) -> dict:
    """A scan with slices below it on which nobody lies: noise, and the table."""
    air = np.full((*chest.hu.shape[:2], below), -1000.0, np.float32)
    if table:
        air[10:-10, -9:-4] = 120.0
    air += np.random.default_rng(1).normal(0.0, 40.0, air.shape).astype(np.float32)
    affine = chest.affine.copy()
    affine[2, 3] -= below * affine[2, 2]
    hu = np.concatenate([air, chest.hu], axis=2)
    return {"volume": MetaTensor(torch.from_numpy(hu)[None], affine=torch.as_tensor(affine))}


@pytest.mark.parametrize(("below", "table"), [(1, True), (1, False), (4, True)])
def test_air_beyond_the_scan_does_not_hide_that_it_is_half(below: int, table: bool) -> None:
    data = _beside_air(make_chest(bottom=110.0), below=below, table=table)
    with pytest.raises(NotAssessableError, match="lowest slice of the body") as caught:
        LungMaskd(keys="volume")(data)
    assert caught.value.code == "LUNG_TRUNCATED"


def test_air_beyond_a_whole_chest_is_nothing_to_warn_of() -> None:
    assert LungMaskd(keys="volume")(_beside_air(CHEST, below=2))["warnings"] == ()
    assert body_range(CHEST.hu, CHEST.lungs) == slice(0, CHEST.hu.shape[2])
    assert body_range(CHEST.hu, np.zeros_like(CHEST.lungs)) == slice(0, CHEST.hu.shape[2])


def test_lungs_larger_than_any_are_lengths_in_another_unit() -> None:
    # 20 slices of 100 ml; in micrometres 1e9 times as much.
    lungs = _areas(0, *[100] * 20, 0)
    assert LungMaskd(keys="volume", most_lung_ml=2001.0).check(lungs, AFFINE) == ()
    with pytest.raises(NotAssessableError, match=r"would have 2 l; at most 1\.9 l"):
        LungMaskd(keys="volume", most_lung_ml=1900.0).check(lungs, AFFINE)
    scale = np.diag([1000.0, 1000.0, 1000.0, 1.0])
    with pytest.raises(NotAssessableError, match="not in millimetres") as caught:
        LungMaskd(keys="volume").check(lungs, scale @ AFFINE)
    assert caught.value.code == "NOT_CHEST"


@pytest.mark.parametrize(("spacing", "thick"), [(5.0, False), (5.5, False), (8.0, True)])
def test_thick_slices_get_a_warning(spacing: float, thick: bool) -> None:
    warnings = LungMaskd(keys="volume").check(
        _areas(0, *[100] * 20, 0), np.diag([-10.0, -20.0, spacing, 1.0])
    )
    assert [w.code for w in warnings] == (["THICK_SLICES"] if thick else [])
    assert not thick or "8.0 mm" in warnings[0].sentence
