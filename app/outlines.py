"""Outlines of lesions in pixels of the source images, as DICOM's spatial coordinates want them."""

from __future__ import annotations

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
    exactly the area of its pixels. Polygons run with the inside on their right in image axes, each from its
    leftmost corner, the upper one of several; the one that starts leftmost comes first.
    """
    corners = _corners(np.pad(np.asarray(mask, dtype=bool), 1))
    points = np.column_stack([corners.column, corners.row]).astype(np.float64)
    following = corners.following().tolist()
    is_outer = corners.of_inside.tolist()
    seen = [False] * len(following)
    polygons = []
    for start in np.lexsort((corners.row, corners.column)).tolist():
        if seen[start]:
            continue
        loop, here = [start], following[start]
        seen[start] = True
        while here != start:
            seen[here] = True
            loop.append(here)
            here = following[here]
        # From the upper left corner of a hole the inside lies on three sides.
        if is_outer[start]:
            polygons.append(points[[*loop, start]])
    return polygons


@dataclass(frozen=True, eq=False)
class _Corners:
    """Where boundaries turn. A point where two pixels touch is two corners, one of each pixel.

    Attributes
    ----------
    row, column
        Of the point.
    to_right, to_bottom
        Whether the horizontal edge of the corner lies to its right, and the vertical one below.
    of_inside
        Whether the pixel between the two edges is inside (a convex corner).
    """

    row: NDArray[np.intp]
    column: NDArray[np.intp]
    to_right: NDArray[np.bool_]
    to_bottom: NDArray[np.bool_]
    of_inside: NDArray[np.bool_]

    def following(self) -> NDArray[np.intp]:
        """Return for each corner the index of the next one along its boundary, the inside on the right."""
        following = np.empty(len(self.row), dtype=np.intp)
        # Corners of a row, or of a column, are the ends of its edges in turn: where two meet in one point,
        # the edge that ends there comes before the one that starts.
        across = np.lexsort((self.to_right, self.column, self.row)).reshape(-1, 2)
        below_is_inside = (self.of_inside == self.to_bottom)[across[:, 0]]
        down = np.lexsort((self.to_bottom, self.row, self.column)).reshape(-1, 2)
        left_is_inside = (self.of_inside != self.to_right)[down[:, 0]]
        for edges, forward in ((across, below_is_inside), (down, left_is_inside)):
            following[edges[forward, 0]] = edges[forward, 1]
            following[edges[~forward, 1]] = edges[~forward, 0]
        return following


def _corners(padded: NDArray[np.bool_]) -> _Corners:
    """Return the corners of a mask that has a margin of one pixel."""
    quadrants = {
        (to_right, to_bottom): padded[
            to_bottom : padded.shape[0] - 1 + to_bottom, to_right : padded.shape[1] - 1 + to_right
        ]
        for to_bottom in (False, True)
        for to_right in (False, True)
    }
    inside = sum(quadrant.astype(np.uint8) for quadrant in quadrants.values())
    touching = (inside == 2) & (quadrants[False, False] == quadrants[True, True])
    found = []
    for (to_right, to_bottom), quadrant in quadrants.items():
        turns = ((inside == 1) | touching) & quadrant | (inside == 3) & ~quadrant
        rows, columns = np.nonzero(turns)
        sides = np.broadcast_to([to_right, to_bottom], (len(rows), 2))
        found.append((rows, columns, sides[:, 0], sides[:, 1], quadrant[rows, columns]))
    return _Corners(*(np.concatenate(values) for values in zip(*found, strict=True)))


def _signed_area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2.0)


def _in_source(polygon: NDArray[np.float64], slice_index: int, grid: CanonicalGrid) -> NDArray[np.float64]:
    """Map corners of display pixels to corners of source pixels; voxel indices count pixel centres."""
    voxels = np.column_stack([polygon - 0.5, np.full(len(polygon), float(slice_index))])
    return grid.to_source(voxels)[:, :2] + 0.5
