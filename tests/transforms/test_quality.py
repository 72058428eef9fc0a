from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.transforms.quality import CheckQualityd, tissue_noise

AFFINE = np.diag([0.8, 0.8, 2.0, 1.0])


def tissue(noise: float = 10.0) -> np.ndarray:
    values = 50 + np.random.default_rng(0).normal(0, noise, (64, 64, 20))
    return values.astype(np.float32)


@pytest.mark.parametrize("noise", [10.0, 100.0])
def test_noise_is_measured(noise: float) -> None:
    assert tissue_noise(tissue(noise)) == pytest.approx(noise, rel=0.1)


def test_warnings_and_limit() -> None:
    check = CheckQualityd("volume").check
    assert check(tissue(), AFFINE) == ()
    assert [r.code for r in check(tissue(200), AFFINE)] == ["NOISE"]
    with pytest.raises(NotAssessableError):
        CheckQualityd("volume", noise_warning_hu=50, noise_limit_hu=100).check(tissue(150), AFFINE)
    assert [r.code for r in check(tissue(), np.diag([0.8, 0.8, 12.0, 1.0]))] == ["OUT_OF_TRAINING_RANGE"]
    metal = tissue()
    metal[:20, :20, :10] = 3071
    assert "METAL" in [r.code for r in check(metal, AFFINE)]


@pytest.mark.parametrize(
    ("spacing", "codes"),
    [
        ((0.8, 0.8), []),
        ((0.8, 0.807), []),
        ((0.8, 0.84), ["OUT_OF_TRAINING_RANGE"]),
        ((0.879, 0.8), ["OUT_OF_TRAINING_RANGE"]),
        ((0.882, 0.8), None),
        ((0.6, 1.2), None),
        ((0.7, 10.0), None),
    ],
)
def test_pixels_are_squares(spacing: tuple[float, float], codes: list[str] | None) -> None:
    check, affine = CheckQualityd("volume").check, np.diag([*spacing, 2.0, 1.0])
    if codes is not None:
        found = check(tissue(), affine)
        assert [reason.code for reason in found] == codes
        assert not codes or "sides of a pixel differ by a factor of 1." in found[0].sentence
        return
    with pytest.raises(NotAssessableError) as caught:
        check(tissue(), affine)
    assert caught.value.code == "NON_SQUARE_PIXELS"
    assert f"{spacing[0]:.2f} mm from right to left" in caught.value.sentence
    assert "resample this one to square pixels" in caught.value.sentence
    assert CheckQualityd("volume", square_warning=20.0, square_limit=20.0).check(tissue(), affine) is not None


def test_damaged_slices_get_a_warning() -> None:
    hu = tissue()
    hu[..., [0, 7, 8]] += 500
    (warning,) = CheckQualityd("volume").check(hu, AFFINE)
    assert warning.code == "SLICE_IMPLAUSIBLE"
    assert warning.sentence.startswith("3 slice(s) differ from their neighbours")


def test_thresholds_must_rise() -> None:
    with pytest.raises(UsageError):
        CheckQualityd("volume", noise_warning_hu=500)


def volume(*blank: int, value: float = 0.0, count: int = 20) -> MetaTensor:
    hu = tissue()[..., :count]
    hu[..., list(blank)] = value
    return MetaTensor(torch.from_numpy(hu)[None], affine=torch.from_numpy(AFFINE))


@pytest.mark.parametrize(
    ("blank", "inside"), [((7,), 1), ((7, 8), 2), ((0,), 0), ((0, 1, 19), 0), ((0, 9, 19), 1)]
)
@pytest.mark.parametrize("value", [0.0, -1024.0])
def test_slices_that_show_nothing_are_told_and_filled_in_a_copy(
    blank: tuple[int, ...], inside: int, value: float
) -> None:
    source = volume(*blank, value=value)
    checked = CheckQualityd("volume")({"volume": source})
    (warning,) = checked["warnings"]
    assert warning.code == "PIXEL_CONSTANT"
    assert warning.sentence.startswith(f"{len(blank)} of 20 slices show nothing")
    assert f"{inside} of them inside" in warning.sentence
    assert checked["blank_slices"] == blank
    assert (source[0, ..., list(blank)] == value).all()
    filled = checked["volume"][0].numpy()
    assert sum(float(filled[..., k].std()) > 1.0 for k in blank) == inside
    np.testing.assert_array_equal(checked["volume"].affine, source.affine)


def test_a_volume_without_blank_slices_is_left_as_it_is() -> None:
    source = volume()
    checked = CheckQualityd("volume")({"volume": source})
    assert checked["volume"] is source
    assert "blank_slices" not in checked


@pytest.mark.parametrize(
    ("blank", "limits", "code"),
    [
        ((5, 9, 13), {}, "PIXEL_CONSTANT"),
        ((9, 10), {"blank_gap_mm": 5.0}, "PIXEL_CONSTANT"),
        (tuple(range(20)), {}, "NO_CONTENT"),
    ],
)
def test_too_many_slices_that_show_nothing_are_declined(
    blank: tuple[int, ...], limits: dict[str, float], code: str
) -> None:
    with pytest.raises(NotAssessableError) as caught:
        CheckQualityd("volume", **limits)({"volume": volume(*blank)})
    assert caught.value.code == code
