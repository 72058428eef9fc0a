"""Dense opacities taken back into the lungs: those inside of them, and those between lung and chest wall.

Consolidation is as dense as muscle, so no threshold tells the two apart. What does: tissue that has lung on
all sides is an opacity, and so is tissue between aerated lung and the chest wall, whose ribs and fat show
where the lung must end. Tissue towards the heart and the diaphragm is left alone, because nothing there tells
an opacity from them; an opacity that takes away all lung of a slice is not recovered either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from covid_ct_mask_net.transforms.morphology import bounding_box, dilated, eroded, labelled

Mask = NDArray[np.bool_]

# Vessels thinner than about twice this do not connect an opacity with the tissue outside.
_VESSEL_STEPS = 2
_BONE_HU = 180.0
_FAT_HU = (-150.0, -30.0)
_GAS_HU = -400.0
# Directions from the middle of a lung to the chest wall: degrees from lateral, positive to posterior.
# In front, the heart lies against the wall; behind, aorta and spine follow.
_DIRECTIONS = {1: (-81.0, 111.0), 2: (-39.0, 111.0)}
_ANGLE_STEP, _RADIUS_STEP_MM, _LONGEST_MM = 3.0, 2.0, 200.0
_PLEURA_MM = 4.0
# Closing takes in what is thinner.
_LEAST_DEPTH_MM = 12.0
# The wall is looked for in this neighbourhood: between two ribs lies only muscle.
_WALL_MM, _WALL_DEGREES, _WALL_PERCENTILE = 15.0, 15.0, 20.0
# The cavity is as wide as lung in this neighbourhood, or nearly as wide as on the other side.
_AROUND_MM, _AROUND_DEGREES, _MIRROR_MM = 50.0, 30.0, 8.0
_APEX_MM = 30.0
# Rays without any lung are filled where lung is so near above and below.
_FLANK_MM = 40.0


def enclosed_opacities(lung: Mask) -> Mask:
    """Return tissue [Z, Y, X] that lung surrounds on all sides; vessels into it do not let it out."""
    found = np.zeros(lung.shape, dtype=bool)
    box = bounding_box(lung)
    if box is None:
        return found
    # What lies around the lung counts as outside, beyond the ends of the scan too; erosion leaves its rim.
    frame = _VESSEL_STEPS + 1
    tissue = np.pad(~lung[box], frame, constant_values=True)
    core = tissue
    for _ in range(_VESSEL_STEPS):
        core = eroded(core, (0, 1, 2), outside=True)
    labels, _ = labelled(core)
    inside = core & (labels != labels[0, 0, 0])
    if inside.any():
        for _ in range(_VESSEL_STEPS):
            inside = dilated(inside, (0, 1, 2)) & tissue
        found[box] = inside[(slice(frame, -frame),) * 3]
    return found


@dataclass(frozen=True, eq=False)
class _Rays:
    """Rays from the middle of a lung to the chest wall, the same on every slice.

    ``degrees`` are the directions of the rays. ``angles`` and ``radii`` say for each pixel of a slice which
    ray it lies on (-1 for none) and how far out (steps); ``rows`` and ``columns`` (rays, steps) are the
    pixels of each ray.
    """

    degrees: NDArray[np.float64]
    angles: NDArray[np.int64]
    radii: NDArray[np.float64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @classmethod
    def of(cls, side: int, lung: Mask, steps: tuple[float, ...]) -> _Rays:
        first, last = _DIRECTIONS[side]
        # Of the projection along the table: opacities on some slices do not move it.
        centre, shape = ndimage.center_of_mass(lung.any(axis=0)), lung.shape
        lateral = -1.0 if side == 1 else 1.0
        degrees = np.arange(first, last + 1e-6, _ANGLE_STEP)
        direction = np.deg2rad(degrees)
        lengths = np.arange(0.0, _LONGEST_MM, _RADIUS_STEP_MM)
        rows = np.rint(centre[0] + np.outer(np.sin(direction), lengths) / steps[1]).astype(np.int64)
        columns = np.rint(centre[1] + lateral * np.outer(np.cos(direction), lengths) / steps[2]).astype(
            np.int64
        )
        y = (np.arange(shape[1])[:, None] - centre[0]) * steps[1]
        x = (np.arange(shape[2])[None] - centre[1]) * steps[2] * lateral
        angles = np.rint((np.rad2deg(np.arctan2(y, x)) - first) / _ANGLE_STEP).astype(np.int64)
        angles[(angles < 0) | (angles >= len(degrees))] = -1
        return cls(degrees, angles, np.hypot(y, x) / _RADIUS_STEP_MM, rows, columns)

    def sample(self, volume: NDArray, outside: float) -> NDArray:
        """Return the values along the rays, (slices, rays, steps)."""
        rows, columns = self.rows, self.columns
        inside = (rows >= 0) & (rows < volume.shape[1]) & (columns >= 0) & (columns < volume.shape[2])
        values = volume[:, rows.clip(0, volume.shape[1] - 1), columns.clip(0, volume.shape[2] - 1)]
        return np.where(inside, values, np.asarray(outside, dtype=volume.dtype))


def wall_opacities(
    sides: NDArray[np.uint8], coarse: NDArray[np.float32], steps: tuple[float, ...]
) -> NDArray[np.uint8]:
    """Return tissue between aerated lung and the chest wall: 1 of the right lung, 2 of the left.

    Parameters
    ----------
    sides : NDArray
        uint8 [Z, Y, X], aerated lung: 1 right, 2 left.
    coarse : NDArray
        float32 HU, same shape.
    steps : tuple of float
        Spacing in mm in the order of the axes.
    """
    found = np.zeros(sides.shape, dtype=np.uint8)
    rays = {side: _Rays.of(side, sides == side, steps) for side in _DIRECTIONS if (sides == side).any()}
    ends = {side: _lung_ends(ray.sample(sides == side, 0)) for side, ray in rays.items()}
    for side, ray in rays.items():
        ribs = _rib_cage(ends[side], ray.sample(sides == side, 0), ray.sample(coarse, -1000.0), steps[0])
        start, end = _gaps(ends[side], _cavity(ends, rays, side, steps[0]), ribs, steps[0])
        on_ray = ray.angles >= 0
        angles, radii = ray.angles[on_ray], ray.radii[on_ray]
        for index in np.flatnonzero((end > start).any(axis=1)):
            between = (radii > start[index][angles]) & (radii < end[index][angles])
            found[index][on_ray] = np.where(between, side, found[index][on_ray])
    found[(sides > 0) | (coarse <= _GAS_HU)] = 0
    return found


def _lung_ends(lung: Mask) -> NDArray[np.int64]:
    """Return how far out lung reaches on each ray (slices, rays) in steps; -1 where a ray meets none."""
    length = lung.shape[2]
    ends: NDArray[np.int64] = np.where(lung.any(axis=2), length - 1 - lung[:, :, ::-1].argmax(axis=2), -1)
    return ends


def _cavity(
    ends: dict[int, NDArray[np.int64]], rays: dict[int, _Rays], side: int, slice_mm: float
) -> NDArray[np.int64]:
    """Return how far out lung would reach by what lies around a ray, and on the other side."""
    reach = ends[side].copy()
    for other, ray in rays.items():
        if other != side:
            here = np.isin(rays[side].degrees, ray.degrees)
            there = np.isin(ray.degrees, rays[side].degrees)
            mirrored = ends[other][:, there] - round(_MIRROR_MM / _RADIUS_STEP_MM)
            reach[:, here] = np.maximum(reach[:, here], mirrored)
    window = (2 * max(1, round(_AROUND_MM / slice_mm)) + 1, 2 * round(_AROUND_DEGREES / _ANGLE_STEP) + 1)
    closed: NDArray[np.int64] = ndimage.grey_closing(reach, size=window, mode="nearest")
    return closed


def _rib_cage(
    ends: NDArray[np.int64], lung: Mask, hu: NDArray[np.float32], slice_mm: float
) -> NDArray[np.int64]:
    """Return where the chest wall begins on each ray, by the bone or fat that is nearest around it."""
    length = hu.shape[2]
    fat = (hu >= _FAT_HU[0]) & (hu <= _FAT_HU[1])
    # One sample of fat may be the blurred border of lung.
    fat[:, :, :-1] &= fat[:, :, 1:]
    stops = (hu >= _BONE_HU) | fat | ((hu < _GAS_HU) & ~lung)
    stops &= np.arange(length) > ends[:, :, None] + _PLEURA_MM / _RADIUS_STEP_MM
    wall = np.where(stops.any(axis=2), stops.argmax(axis=2), length)
    window = (2 * max(1, round(_WALL_MM / slice_mm)) + 1, 2 * round(_WALL_DEGREES / _ANGLE_STEP) + 1)
    nearest: NDArray[np.int64] = ndimage.percentile_filter(
        wall, _WALL_PERCENTILE, size=window, mode="nearest"
    )
    return np.minimum(nearest, wall)


def _gaps(
    ends: NDArray[np.int64], cavity: NDArray[np.int64], ribs: NDArray[np.int64], slice_mm: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the tissue to be taken in begins and ends on each ray; equal where there is none."""
    bare = ends < 0
    near = round(_FLANK_MM / slice_mm)
    above, below = (
        ndimage.maximum_filter1d((~bare).astype(np.uint8), 2 * near + 1, axis=0, origin=o, mode="constant")
        > 0
        for o in (-near, near)
    )
    start = np.where(bare & above & below, 0, ends)
    end = np.minimum(cavity, ribs)
    use = (end - start >= _LEAST_DEPTH_MM / _RADIUS_STEP_MM) & (start >= 0)
    # The apex is narrow and far from the ribs.
    highest = np.flatnonzero((~bare).any(axis=1))[-1]
    use[max(0, highest - round(_APEX_MM / slice_mm)) :] = False
    return start, np.where(use, end, start)
