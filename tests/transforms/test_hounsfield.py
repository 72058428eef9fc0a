"""The gate in front of the networks, and the window."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.lung_slices import LungSlices
from covid_ct_mask_net.slice_crop import SliceCrop
from covid_ct_mask_net.transforms import CheckHounsfieldd, WindowHounsfieldd


def _volume(*values: float) -> MetaTensor:
    """Return (1, 8, 8, 4): half air and half tissue, then these values from the first voxel on."""
    hu = torch.full((1, 8, 8, 4), -900.0)
    hu[:, 4:] = 40.0
    hu.view(-1)[: len(values)] = torch.tensor(values)
    return MetaTensor(hu, affine=torch.eye(4, dtype=torch.float64))


def _check(volume: torch.Tensor) -> torch.Tensor:
    return CheckHounsfieldd(keys="volume")({"volume": volume})["volume"]


def test_a_chest_passes_unchanged() -> None:
    volume = _volume(-1024.0, 3071.0, 0.5)
    checked = _check(volume)
    assert torch.equal(checked.as_tensor(), volume.as_tensor())
    assert torch.equal(checked.affine, volume.affine)


def test_what_lies_outside_of_the_scale_is_clipped_and_padding_is_air() -> None:
    """-3024 and -2000 are paddings of real scanners, 63536 is -2000 read without its sign, 4000 is metal."""
    checked = _check(_volume(-3024.0, -2000.0, 63536.0, 30000.0, 29999.0, 4000.0)).reshape(-1)
    assert checked[:6].tolist() == [-1024.0, -1024.0, -1024.0, -1024.0, 3071.0, 3071.0]


def test_whole_hu_take_two_bytes_and_everything_else_becomes_float32() -> None:
    whole = _volume().round()
    assert _check(whole.to(torch.int32)).dtype == torch.float32
    short = _check(whole.to(torch.int16))
    assert short.dtype == torch.int16
    assert torch.equal(short.to(torch.float32).as_tensor(), _check(whole).as_tensor())


def test_padding_of_whole_hu_becomes_air() -> None:
    volume = _volume().round().to(torch.int16)
    volume[0, 0, 0, 0], volume[0, 0, 0, 1] = 32767, -2000
    checked = _check(volume)
    assert checked.dtype == torch.int16
    assert checked[0, 0, 0, :2].tolist() == [-1024, -1024]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 100, 255])
def test_one_value_that_is_no_number_is_enough(value: float, place: int) -> None:
    volume = _volume()
    volume.as_tensor().view(-1)[place] = value
    with pytest.raises(NotAssessableError) as caught:
        _check(volume)
    assert caught.value.code == "NON_FINITE"


@pytest.mark.parametrize("value", [0.0, -1000.0, 17.0])
def test_a_volume_of_one_value_has_no_content(value: float) -> None:
    with pytest.raises(NotAssessableError, match=f"value {value:g}") as caught:
        _check(torch.full((1, 8, 8, 4), value))
    assert caught.value.code == "NO_CONTENT"


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 255.0), (0.0, 1.0), (-1000.0, -600.0), (-150.0, 250.0), (-1.0, 1.0)],
    ids=["8 bit", "scaled to 0..1", "no tissue", "mediastinal window", "scaled to -1..1"],
)
def test_what_cannot_be_a_chest_in_hu_is_not_assessed(low: float, high: float) -> None:
    with pytest.raises(NotAssessableError, match="windowed or rescaled") as caught:
        _check(torch.linspace(low, high, 8 * 8 * 4).reshape(1, 8, 8, 4))
    assert caught.value.code == "NOT_HOUNSFIELD_RANGE"
    assert f"from {low:g} to {high:g}" in caught.value.sentence


def test_unsigned_values_without_their_intercept_are_not_assessed() -> None:
    """Stored values 0..4095: air is 24, tissue 1064; nothing is below -500."""
    with pytest.raises(NotAssessableError) as caught:
        _check(_volume().as_tensor() + 1024.0)
    assert caught.value.code == "NOT_HOUNSFIELD_RANGE"


def test_the_window_runs_from_0_to_1_and_is_clipped() -> None:
    """Level -600, width 1500: -1350 is 0, 150 is 1, the level is one half."""
    window = WindowHounsfieldd(keys="slices", level=-600.0, width=1500.0)
    hu = torch.tensor([-2000.0, -1350.0, -975.0, -600.0, -225.0, 150.0, 3071.0])
    assert window({"slices": hu})["slices"].tolist() == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1, 1], abs=1e-6)


def test_what_was_windowed_crosses_processes() -> None:
    """A DataLoader with workers sends it through a pipe."""
    volume = torch.linspace(-1350.0, 150.0, 24).reshape(2, 3, 4)
    slices = LungSlices(volume, [0, 3], SliceCrop(0, 0, 3, 2, 3, 2))
    window = WindowHounsfieldd(keys="slices", level=-600.0, width=1500.0)
    windowed = window({"slices": slices})["slices"]
    sent = pickle.loads(pickle.dumps(windowed))  # noqa: S301
    assert torch.equal(sent[:], windowed[:])
    assert torch.allclose(sent[1], (slices[1] + 1350.0) / 1500.0)


def test_missing_entries() -> None:
    for transform in (CheckHounsfieldd, lambda **k: WindowHounsfieldd(level=0.0, width=1.0, **k)):
        assert transform(keys="volume", allow_missing_keys=True)({}) == {}
        with pytest.raises(KeyError):
            transform(keys="volume")({})
