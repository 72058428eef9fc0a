"""Trachea and main bronchi do not count as lung."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from builders.chest import make_chest
from covid_ct_mask_net.transforms.airways import find_airways

STEPS = (5.0, 2.0, 2.0)


def _found(**properties) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:  # type: ignore[no-untyped-def]
    """Return what was found, the airways that are there, and the lungs, all as [Z, Y, X]."""
    chest = make_chest(spacing=STEPS[::-1], **properties)
    coarse = np.ascontiguousarray(chest.hu.transpose(2, 1, 0))
    lungs, airways = (m.transpose(2, 1, 0) for m in (chest.lungs > 0, chest.airways))
    body = np.zeros(coarse.shape, bool)
    columns, rows = (np.flatnonzero((coarse > -200).any(axis=axis)) for axis in ((0, 1), (0, 2)))
    body[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    air = (coarse < -400.0) & (lungs | airways | chest.gas.transpose(2, 1, 0))
    return find_airways(coarse, air, body, STEPS), airways, lungs


@pytest.mark.parametrize("shift", [(0.0, 0.0), (60.0, 20.0), (-60.0, 0.0)])
def test_the_trachea_is_followed_from_the_neck_into_the_bronchi(shift: tuple[float, float]) -> None:
    """Wherever the patient lies in the image."""
    found, airways, lungs = _found(shift=shift)
    assert (found & airways).sum() >= 0.97 * airways.sum()
    assert (found & lungs).sum() <= 0.001 * lungs.sum()
    # The wall around the lumen is one pixel.
    assert found.sum() <= 2.2 * airways.sum()


def test_without_airways_there_are_none() -> None:
    found, _, _ = _found(airways=False)
    assert not found.any()


def test_gas_in_stomach_and_bowel_is_no_airway() -> None:
    found, _, _ = _found(airways=False, bowel_gas=True, bottom=-60.0)
    assert not found.any()


def test_a_short_pocket_of_gas_is_no_trachea() -> None:
    coarse = np.full((40, 60, 60), 40.0, np.float32)
    air = np.zeros(coarse.shape, bool)
    air[30:35, 25:33, 26:34] = True  # 25 mm long
    coarse[air] = -990.0
    body = np.ones(coarse.shape, bool)
    assert not find_airways(coarse, air, body, STEPS).any()
    air[25:35, 25:33, 26:34] = True
    coarse[air] = -990.0
    assert find_airways(coarse, air, body, STEPS).any()


def test_an_empty_volume_has_no_airways() -> None:
    empty = np.zeros((10, 20, 20), bool)
    assert not find_airways(np.full(empty.shape, -1000.0, np.float32), empty, empty, STEPS).any()
