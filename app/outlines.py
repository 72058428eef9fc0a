"""Outlines of lesions in pixels of the source images, as DICOM's spatial coordinates want them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from covid_ct_mask_net.geometry import CanonicalGrid, voxel_spacing
from covid_ct_mask_net.triage.lesions import LinkedLesion, slice_masks


@dataclass(frozen=True, eq=False)
class SliceOutline:
    """The outline of one lesion on one source image.

    Attributes
    ----------
    lesion_number
        Number of the lesion in the result, from 1.
    place
        Index of the source image along the slice axis of the source volume.
    header
        The source image.
    frame_number
        DICOM frame number in a multi-frame image, else None.
    polygons
        Closed polygons (n, 2) of (column, row), the first point repeated at the end. The upper left corner
        of the upper left pixel is (0, 0) (PS3.3 C.18.6.1.1). Holes are not cut out.
    area_mm2
        Area of the lesion on this image, by pixels.
    polygon_areas_mm2
        Area that each polygon encloses.
    """

    lesion_number: int
    place: int
    header: Dataset
    frame_number: int | None
    polygons: tuple[NDArray[np.float64], ...]
    area_mm2: float
    polygon_areas_mm2: tuple[float, ...]


def outline_lesions(
    lesions: Sequence[LinkedLesion],
    grid: CanonicalGrid,
    headers: Sequence[Dataset | None],
    frame_numbers: Sequence[int | None],
) -> tuple[SliceOutline, ...]:
    """Return the outlines of lesions on the images that they were seen on.

    Parameters
    ----------
    lesions : sequence of LinkedLesion
        In the order of their numbers.
    grid : CanonicalGrid
        Of the volume; leads back to source pixels.
    headers, frame_numbers
        Along the slice axis of the source. A slice without header was interpolated: nothing was seen on it.
    """
    pixel_mm2 = float(np.prod(voxel_spacing(grid.affine)[:2]))
    outlines = []
    for number, lesion in enumerate(lesions, start=1):
        for index, ((row, column), mask) in slice_masks(lesion).items():
            place = grid.source_slice(index)
            header = headers[place]
            if header is None:
                continue
            boundaries = boundary_polygons(mask)
            outlines.append(
                SliceOutline(
                    lesion_number=number,
                    place=place,
                    header=header,
                    frame_number=frame_numbers[place],
                    polygons=tuple(
                        _in_source(polygon + np.array([column, row]), index, grid) for polygon in boundaries
                    ),
                    area_mm2=round(float(mask.sum()) * pixel_mm2, 2),
                    polygon_areas_mm2=tuple(round(_signed_area(p) * pixel_mm2, 2) for p in boundaries),
                )
            )
    return tuple(outlines)


def boundary_polygons(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the outer boundaries of a mask along its pixel edges, as closed polygons of (column, row).

    Pixels that touch at a corner belong to different polygons. The polygon of a region without holes has
    exactly the area of its pixels.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    following: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    # Each edge between inside and outside, directed so that the inside is on its right in image axes.
    for row, column in np.argwhere(np.diff(padded, axis=0) == 1):
        following[column - 1, row].append((column, row))
    for row, column in np.argwhere(np.diff(padded, axis=0) == -1):
        following[column, row].append((column - 1, row))
    for row, column in np.argwhere(np.diff(padded, axis=1) == 1):
        following[column, row].append((column, row - 1))
    for row, column in np.argwhere(np.diff(padded, axis=1) == -1):
        following[column, row - 1].append((column, row))
    polygons = []
    while following:
        start = min(following)
        loop = _loop(following, start)
        if _signed_area(loop) > 0:
            polygons.append(_without_collinear(loop))
    return polygons


def _loop(
    following: defaultdict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]
) -> list[tuple[int, int]]:
    """Take one closed loop out of the edges; where two meet at a corner, turn to the inside."""
    loop = [start]
    came = (0, 0)
    while True:
        here = loop[-1]
        choices = following[here]
        following_point = max(choices, key=lambda there: _right_turn(came, here, there))
        choices.remove(following_point)
        if not choices:
            del following[here]
        came = (following_point[0] - here[0], following_point[1] - here[1])
        loop.append(following_point)
        if following_point == start:
            return loop


def _right_turn(came: tuple[int, int], here: tuple[int, int], there: tuple[int, int]) -> int:
    """Return 1 for a turn to the right (clockwise as seen on the image), -1 to the left, 0 for none."""
    goes = (there[0] - here[0], there[1] - here[1])
    return came[0] * goes[1] - came[1] * goes[0]


def _signed_area(loop: Sequence[tuple[int, int]] | NDArray[np.float64]) -> float:
    points = np.asarray(loop, dtype=np.float64)
    x, y = points[:, 0], points[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2.0)


def _without_collinear(loop: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    points = np.asarray(loop[:-1], dtype=np.float64)
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    corners = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return np.vstack([corners, corners[:1]])


def _in_source(polygon: NDArray[np.float64], slice_index: int, grid: CanonicalGrid) -> NDArray[np.float64]:
    """Map corners of display pixels to corners of source pixels; voxel indices count pixel centres."""
    voxels = np.column_stack([polygon - 0.5, np.full(len(polygon), float(slice_index))])
    return grid.to_source(voxels)[:, :2] + 0.5
