"""Outlines of lesions in pixels of the source images."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage

from builders.evidence import SHAPE, grid, instance
from covid_ct_mask_net.app.outlines import boundary_polygons, outline_lesions
from covid_ct_mask_net.geometry import CanonicalGrid
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.triage.lesions import LinkedLesion

HEADERS = [Dataset() for _ in range(SHAPE[2])]
NUMBERS: list[int | None] = [None] * SHAPE[2]


def _area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2.0)


def _drawn(polygons: list[NDArray[np.float64]], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Count for each pixel the polygons that its centre lies in."""
    rows, columns = np.indices(shape)
    centres = np.column_stack([columns.ravel() + 0.5, rows.ravel() + 0.5])
    return sum(
        (Polygon(p).contains_points(centres).astype(int) for p in polygons), np.zeros(rows.size, int)
    ).reshape(shape)


def test_a_pixel_has_four_corners_from_its_upper_left() -> None:
    """The upper left corner of the upper left pixel is (0, 0)."""
    (polygon,) = boundary_polygons(np.ones((1, 1), bool))
    assert np.array_equal(polygon[0], polygon[-1])
    assert {tuple(p) for p in polygon.tolist()} == {(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)}
    assert _area(polygon) == 1.0


def test_a_box_has_four_corners_whatever_its_size() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:8] = True
    (polygon,) = boundary_polygons(mask)
    assert len(polygon) == 5
    assert {tuple(p) for p in polygon.tolist()} == {(3.0, 2.0), (8.0, 2.0), (8.0, 5.0), (3.0, 5.0)}


def test_pixels_that_touch_at_a_corner_are_apart() -> None:
    for mask in (np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]):
        polygons = boundary_polygons(mask)
        assert [_area(p) for p in polygons] == [1.0, 1.0]


def test_holes_are_not_cut_out() -> None:
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    (polygon,) = boundary_polygons(mask)
    assert _area(polygon) == 25.0


def test_nothing_has_no_outline() -> None:
    assert boundary_polygons(np.zeros((4, 4), bool)) == []


@pytest.mark.parametrize("seed", range(12))
def test_polygons_hold_the_pixels_of_each_part_and_its_holes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((14, 17)) < rng.uniform(0.2, 0.9)
    if seed % 3 == 0:
        mask = ndimage.binary_opening(mask)
    parts, count = ndimage.label(mask)
    filled = [
        ndimage.binary_fill_holes(parts == part, structure=np.ones((3, 3))) for part in range(1, count + 1)
    ]
    polygons = boundary_polygons(mask)
    assert len(polygons) == count
    assert np.array_equal(_drawn(polygons, mask.shape), sum(filled, np.zeros(mask.shape, int)))
    assert sorted(map(_area, polygons)) == sorted(float(f.sum()) for f in filled)
    for polygon in polygons:
        assert np.array_equal(polygon[0], polygon[-1])
        steps = np.diff(polygon, axis=0)
        assert ((steps == 0).sum(axis=1) == 1).all(), "edges follow the pixels"
        turns = (
            steps[:, 0] * np.roll(steps, -1, axis=0)[:, 1] - steps[:, 1] * np.roll(steps, -1, axis=0)[:, 0]
        )
        assert (turns != 0).all(), "no point in the middle of an edge"


def _lesion(*instances) -> LinkedLesion:  # type: ignore[no-untyped-def]
    return LinkedLesion(LesionClass.CONSOLIDATION, instances)


def test_each_slice_of_a_lesion_has_its_outline_and_image() -> None:
    lesions = [
        _lesion(instance(3, (10, 15), (5, 13)), instance(4, (11, 15), (5, 13))),
        _lesion(instance(9, (1, 2), (3, 4))),
    ]
    first, second, third = outline_lesions(lesions, grid(), HEADERS, NUMBERS)
    assert (first.lesion_number, second.lesion_number, third.lesion_number) == (1, 1, 2)
    assert first.header is HEADERS[3]
    assert second.header is HEADERS[4]
    # Pixels of 1 x 2 mm.
    assert (first.area_mm2, second.area_mm2, third.area_mm2) == (80.0, 64.0, 2.0)
    assert first.polygon_areas_mm2 == (80.0,)
    (polygon,) = first.polygons
    assert {tuple(p) for p in polygon.tolist()} == {(5.0, 10.0), (13.0, 10.0), (13.0, 15.0), (5.0, 15.0)}


def test_frames_of_a_multi_frame_image_are_named() -> None:
    numbers = [SHAPE[2] - k for k in range(SHAPE[2])]
    (outline,) = outline_lesions([_lesion(instance(3, (1, 2), (3, 4)))], grid(), HEADERS, numbers)
    assert outline.frame_number == 9


def test_interpolated_slices_have_no_outline() -> None:
    headers: list[Dataset | None] = list(HEADERS)
    headers[4] = None
    lesion = _lesion(*(instance(k, (10, 15), (5, 13)) for k in (3, 4, 5)))
    outlines = outline_lesions([lesion], grid(), headers, NUMBERS)
    assert [o.header is HEADERS[k] for o, k in zip(outlines, (3, 5), strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("change", "slice_index", "corners"),
    [
        # x flipped: columns 5..13 of 40 become 27..35.
        (np.diag([-1.0, 1, 1, 1]), 3, {(27.0, 10.0), (35.0, 10.0), (35.0, 15.0), (27.0, 15.0)}),
        # y flipped: rows 10..15 of 30 become 15..20.
        (np.diag([1.0, -1, 1, 1]), 3, {(5.0, 15.0), (13.0, 15.0), (13.0, 20.0), (5.0, 20.0)}),
        # z flipped: the images run from superior to inferior.
        (np.diag([1.0, 1, -1, 1]), 8, {(5.0, 10.0), (13.0, 10.0), (13.0, 15.0), (5.0, 15.0)}),
    ],
)
def test_outlines_lie_on_the_images_as_they_were_stored(
    change: NDArray[np.float64], slice_index: int, corners: set[tuple[float, float]]
) -> None:
    for axis in range(3):
        if change[axis, axis] < 0:
            change[axis, 3] = SHAPE[axis] - 1
    canonical = grid().affine
    stored = CanonicalGrid(canonical, canonical @ change)
    (outline,) = outline_lesions([_lesion(instance(3, (10, 15), (5, 13)))], stored, HEADERS, NUMBERS)
    assert outline.header is HEADERS[slice_index]
    (polygon,) = outline.polygons
    assert {tuple(np.round(p, 9)) for p in polygon.tolist()} == corners


def test_rows_and_columns_may_be_exchanged_in_the_source() -> None:
    swap = np.eye(4)[[1, 0, 2, 3]]
    canonical = grid().affine
    stored = CanonicalGrid(canonical, canonical @ swap)
    (outline,) = outline_lesions([_lesion(instance(3, (10, 15), (5, 13)))], stored, HEADERS, NUMBERS)
    assert {tuple(np.round(p, 9)) for p in outline.polygons[0].tolist()} == {
        (10.0, 5.0), (10.0, 13.0), (15.0, 13.0), (15.0, 5.0),
    }  # fmt: skip
