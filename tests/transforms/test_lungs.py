"""The classical lung mask on chests whose lungs are known, and on real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from builders.chest import LEFT, RIGHT, Chest, ball, box, ellipsoid, make_chest
from covid_ct_mask_net.app import intake, series_selection, volume
from covid_ct_mask_net.geometry import voxel_volume_ml
from covid_ct_mask_net.transforms.lungs import LungSettings, segment_lungs
from covid_ct_mask_net.transforms.orientation import to_canonical

PLAIN = make_chest()


def _dice(chest: Chest, found: NDArray[np.uint8], side: int) -> float:
    ours, truth = found == side, chest.lungs == side
    return 2.0 * np.count_nonzero(ours & truth) / (np.count_nonzero(ours) + np.count_nonzero(truth))


def _check(chest: Chest, least_dice: float = 0.99) -> NDArray[np.uint8]:
    found = segment_lungs(chest.hu, chest.affine)
    assert found.dtype == np.uint8
    assert found.shape == chest.hu.shape
    for side in (RIGHT, LEFT):
        assert _dice(chest, found, side) >= least_dice
    assert (
        not np.count_nonzero((found > 0) & (chest.lungs > 0) & (found != chest.lungs)) * chest.voxel_ml > 2.0
    )
    assert chest.ml((found > 0) & chest.airways) <= 5.0
    assert chest.ml((found > 0) & chest.gas) <= 1.0
    return found


def test_lungs_of_a_clear_chest_are_found_to_the_millilitre() -> None:
    found = _check(PLAIN, 0.995)
    for side in (RIGHT, LEFT):
        assert PLAIN.ml(found == side) == pytest.approx(PLAIN.ml(PLAIN.lungs == side), rel=0.01)


@pytest.mark.parametrize(
    "properties",
    [
        {"spacing": (0.8, 0.8, 5.0)},
        {"spacing": (1.1, 1.7, 4.0)},
        {"spacing": (2.0, 2.0, 8.0)},
        {"noise": 60.0},
        {"table": False},
        {"bowel_gas": False},
        {"airways": False, "extent": (380.0, 280.0, 260.0)},
        {"extent": (280.0, 200.0, 320.0)},
        {"shift": (60.0, 30.0)},
        {"shift": (-50.0, 0.0)},
        {"joined": True},
        {"lung_hu": -955.0},
        {"lung_hu": -700.0},
        {"bottom": 90.0},
        {"extent": (380.0, 280.0, 240.0)},
    ],
    ids=[
        "0.8 mm pixels", "pixels not square", "8 mm slices", "low dose", "no table", "no bowel gas",
        "no airways", "field of view cuts the body", "off the middle", "off to the other side",
        "lungs joined in front", "emphysema", "shallow breath", "bases cut off", "apices cut off",
    ],
)  # fmt: skip
def test_lungs_are_found_whatever_the_scan(properties: dict) -> None:
    _check(make_chest(**properties), 0.985)


@pytest.mark.parametrize("inner", [-1000.0, -900.0])
def test_the_inside_of_a_table_that_touches_the_patient_is_no_lung(inner: float) -> None:
    chest = make_chest(table=False)
    hu = chest.hu.copy()
    # Plates of 10 mm around 18 mm of air or foam, which 300 mm of scan make larger than a lung.
    hu[20:170, 122:138], hu[25:165, 127:133] = 100.0, inner
    found = segment_lungs(hu, chest.affine)
    assert chest.ml((found > 0) & (chest.lungs == 0)) <= 25.0


def test_air_between_arms_and_trunk_is_no_lung() -> None:
    chest = make_chest(extent=(480.0, 280.0, 320.0))
    hu = chest.hu.copy()
    x, y = (np.arange(240) - 120)[:, None] * 2.0, (np.arange(140) - 70)[None] * 2.0
    for side in (-1, 1):
        arm = (x - side * 205) ** 2 + (y - 20) ** 2 < 25**2
        bridges = (abs(x - side * 175) < 18) & ((abs(y - 38) < 6) | (abs(y) < 6))
        hu[(arm | bridges) & (hu[:, :, 0] < -500)] = 40.0
    found = segment_lungs(hu, chest.affine)
    for side in (RIGHT, LEFT):
        assert _dice(chest, found, side) >= 0.99


def test_one_lung_alone_keeps_its_side() -> None:
    for gone, left_over in ((LEFT, RIGHT), (RIGHT, LEFT)):
        chest = make_chest(without_lung=gone)
        found = segment_lungs(chest.hu, chest.affine)
        assert not (found == gone).any()
        assert _dice(chest, found, left_over) >= 0.99


@pytest.mark.parametrize(
    ("opacity", "least"),
    [
        ({"ground_glass": [box((-200, 200), (30, 200), (30, 160))]}, 0.99),
        ({"consolidations": [ball(-82, 0, 150, 28)]}, 0.99),
        ({"consolidations": [ball(-130, 10, 130, 14)]}, 0.8),
        ({"consolidations": [ellipsoid(-132, 10, 120, 35, 35, 40)]}, 0.8),
        ({"consolidations": [box((-200, 200), (54, 200), (60, 150))]}, 0.8),
        ({"consolidations": [ball(75, 60, 150, 10), ball(-75, 70, 120, 12)]}, 0.8),
    ],
    ids=[
        "ground glass of both bases",
        "a mass inside",
        "small at the pleura",
        "94 ml at the pleura",
        "350 ml at the back of both lungs",
        "small ones at the back",
    ],
)
def test_opacities_stay_inside_the_lungs(opacity: dict, least: float) -> None:
    chest = make_chest(**opacity)
    found = _check(chest, 0.975)
    assert chest.opacities.any()
    share = np.count_nonzero((found > 0) & chest.opacities) / np.count_nonzero(chest.opacities)
    assert share >= least


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.full((60, 60, 30), -1000.0, np.float32),
        lambda: np.full((60, 60, 30), 40.0, np.float32),
        lambda: make_chest(bottom=-330.0, extent=(380.0, 280.0, 330.0)).hu,
        lambda: _head(),
    ],
    ids=["air", "solid", "abdomen", "head"],
)
def test_where_there_is_no_lung_none_is_found(make: Callable[[], NDArray[np.float32]]) -> None:
    hu = make()
    found = segment_lungs(hu, PLAIN.affine)
    assert np.count_nonzero(found) * PLAIN.voxel_ml <= 20.0


def _head() -> NDArray[np.float32]:
    """A skull with air in sinuses and mouth."""
    hu = np.full((100, 120, 40), -1000.0, np.float32)
    x, y, z = (np.arange(n).reshape([-1 if a == i else 1 for i in range(3)]) for a, n in enumerate(hu.shape))
    inside = np.broadcast_to(((x - 50) / 38) ** 2 + ((y - 60) / 48) ** 2 <= 1, hu.shape)
    skull = inside & ~np.broadcast_to(((x - 50) / 35) ** 2 + ((y - 60) / 45) ** 2 <= 1, hu.shape)
    hu[inside] = 35.0
    hu[skull] = 900.0
    hu[
        np.broadcast_to(((x - 50) / 12) ** 2 + ((y - 25) / 8) ** 2 + ((z - 12) / 6) ** 2 <= 1, hu.shape)
    ] = -1000.0
    return hu


def test_the_mask_does_not_depend_on_the_memory_layout() -> None:
    """The application hands over volumes whose slices are contiguous, tests those whose columns are."""
    slices_first = np.ascontiguousarray(PLAIN.hu.transpose(2, 1, 0)).transpose(2, 1, 0)
    assert np.array_equal(segment_lungs(slices_first, PLAIN.affine), segment_lungs(PLAIN.hu, PLAIN.affine))


def test_the_given_volume_stays_as_it_was() -> None:
    before = PLAIN.hu.copy()
    segment_lungs(PLAIN.hu, PLAIN.affine)
    assert np.array_equal(PLAIN.hu, before)


def test_settings_are_used() -> None:
    assert not segment_lungs(PLAIN.hu, PLAIN.affine, LungSettings(least_ml=9000.0)).any()


@pytest.mark.parametrize(
    ("series", "litres", "right_share"),
    [("cmb-crc-01068", (4.0, 5.0), (0.5, 0.6)), ("lung-dx-a0001", (5.0, 6.2), (0.5, 0.62)),
     ("lung-dx-a0002", (2.5, 3.2), (0.38, 0.5))],
)  # fmt: skip
def test_real_lungs(
    shared_data: Path, series: str, litres: tuple[float, float], right_share: tuple[float, float]
) -> None:
    """Volumes that were looked at slice by slice; the last patient's tumour takes from the right lung."""
    (study,) = intake.scan([shared_data / "chest-ct-dicom" / series]).studies
    loaded = volume.load(series_selection.select(study).required())
    canonical = to_canonical(loaded.image)
    affine = np.asarray(canonical.affine)
    lungs = segment_lungs(canonical[0].numpy(), affine)
    counts = np.bincount(lungs.ravel(), minlength=3) * voxel_volume_ml(affine) / 1000.0
    right, left = float(counts[RIGHT]), float(counts[LEFT])
    assert litres[0] <= right + left <= litres[1]
    assert right_share[0] <= right / (right + left) <= right_share[1]
    # The patient's right is where x is larger in RAS, whatever way the series was stored.
    for side in (RIGHT, LEFT):
        columns = np.flatnonzero((lungs == side).any(axis=(1, 2)))
        x = affine[0, 0] * columns.mean() + affine[0, 3]
        assert (x > affine[0, 0] * (lungs.shape[0] / 2) + affine[0, 3]) == (side == RIGHT)


def test_a_thin_chest_wall_is_kept_on_coarse_pixels() -> None:
    """An opening by pixels of 3.5 mm would take 8 mm of wall away, and the lung with it."""
    spacing = (3.5, 3.5, 5.0)
    chest = make_chest(spacing=spacing, extent=(378.0, 280.0, 320.0), table=False)
    lateral = np.abs(np.arange(chest.hu.shape[0]) - (chest.hu.shape[0] - 1) / 2) * spacing[0] > 140.0
    hu = chest.hu.copy()
    hu[lateral] = -1000.0
    assert np.count_nonzero(segment_lungs(hu, chest.affine)) == pytest.approx(
        np.count_nonzero(chest.lungs), rel=0.02
    )
