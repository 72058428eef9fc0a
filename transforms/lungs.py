"""Lungs found by classical means: no weights, tolerant of opacities.

Air inside the body, without airways and bowel gas, split into the patient's right and left lung; then what
opacities took away is given back by closing. All shapes are worked out on a grid of about 2 mm, the outline
at full resolution. The volume itself is gone through slice by slice: it may be as large as memory allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from covid_ct_mask_net.geometry import voxel_spacing
from covid_ct_mask_net.transforms.airways import find_airways
from covid_ct_mask_net.transforms.morphology import (
    bounding_box,
    closed_by_box,
    dilated,
    each_slab,
    eroded,
    eroded_by_box,
    holes,
    label_sizes,
    labelled,
    opened_by_box,
)
from covid_ct_mask_net.transforms.opacities import enclosed_opacities, wall_opacities
from covid_ct_mask_net.transforms.truncation import circle_of_reconstruction

Mask = NDArray[np.bool_]

RIGHT, LEFT = 1, 2
# Reach of the opening that takes the table, sheets and cables off the body.
_BODY_OPENING_MM = 2.9


@dataclass(frozen=True)
class LungSettings:
    """What counts as lung.

    Attributes
    ----------
    air_hu
        Voxels below are air or aerated lung; ground-glass opacity mostly is, consolidation is not.
    grid_mm
        Spacing in the plane at which shapes are worked out.
    grid_voxels
        Where that grid would have more voxels, slices are put together too, up to ``grid_mm``: thousands of
        slices lie closer than that.
    closing_mm
        Opacities up to about twice this width at the pleura are taken into the lung.
    hole_mm2
        Holes in a slice of a lung up to this area are taken into it.
    gas_hu, gas_ml
        Pockets with a lower mean are gas (stomach, bowel, airway), not lung, unless they are larger than
        this: emphysema can be as thin as bowel gas.
    air_mean_hu
        Pockets of any size with a lower mean are plain air, as inside the table.
    least_ml
        Smaller pockets are not lung.
    """

    air_hu: float = -400.0
    grid_mm: float = 2.0
    grid_voxels: int = 50_000_000
    closing_mm: float = 12.0
    hole_mm2: float = 1500.0
    gas_hu: float = -945.0
    gas_ml: float = 1000.0
    air_mean_hu: float = -980.0
    least_ml: float = 25.0


def segment_lungs(
    hu: NDArray[np.float32], affine: NDArray[np.float64], settings: LungSettings | None = None
) -> NDArray[np.uint8]:
    """Return the lungs of a canonical CT volume.

    Parameters
    ----------
    hu : NDArray
        float32 HU, canonical [X, Y, Z]: the first index grows to the patient's left.
    affine : NDArray
        Voxel to mm.
    settings : LungSettings, optional
        Thresholds.

    Returns
    -------
    NDArray
        uint8 [X, Y, Z]: 0 none, 1 right lung, 2 left lung. All zero where there is no lung.
    """
    settings = settings or LungSettings()
    spacing = voxel_spacing(np.asarray(affine, dtype=np.float64))
    factors = _factors(hu.shape, spacing, settings)
    coarse = _coarse(hu, factors)
    lungs = np.zeros(hu.shape[::-1], dtype=np.uint8).transpose(2, 1, 0)
    outside = _outside(hu, spacing, factors, coarse.shape[1:])
    body = _body(coarse, (spacing[1] * factors[1], spacing[0] * factors[0]), outside)
    shadow = bounding_box(np.asarray(body.any(axis=0)))
    if shadow is None:
        return lungs
    # Nothing outside of the body matters from here on.
    rows, columns = shadow
    inside = tuple(
        slice(part.start * factor, part.stop * factor)
        for part, factor in zip((columns, rows), factors[:2], strict=True)
    )
    coarse = np.ascontiguousarray(coarse[:, rows, columns])
    body = np.ascontiguousarray(body[:, rows, columns])
    # Slices first: [Z, Y, X], each slice contiguous.
    steps = (spacing[2] * factors[2], spacing[1] * factors[1], spacing[0] * factors[0])
    air = (coarse < settings.air_hu) & body
    airways = find_airways(coarse, air, body, steps)
    pockets = _lung_pockets(air & ~airways, coarse, steps, settings)
    sides = _sides(pockets, body)
    # Each is as large as an eighth of the volume and more: what is no longer needed goes as early as it can.
    del pockets, body
    if sides.any():
        air &= sides > 0
        sides = _with_opacities(sides, coarse, airways, steps)
        del coarse
        closed = _closed(sides, airways, steps, settings)
        del sides
        _outline(lungs[inside], hu[inside], closed, air, airways, factors, settings)
    return lungs


def _factors(
    shape: tuple[int, ...], spacing: tuple[float, float, float], settings: LungSettings
) -> tuple[int, int, int]:
    """Return how many voxels along each axis become one of the grid."""
    across, down = (max(1, round(settings.grid_mm / spacing[axis])) for axis in (0, 1))
    voxels = (shape[0] // across) * (shape[1] // down) * shape[2]
    along = min(-(-voxels // settings.grid_voxels), int(settings.grid_mm / spacing[2]))
    return across, down, max(1, along)


def _coarse(hu: NDArray, factors: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return block means as slices [Z, Y, X]; a rest at the far edges in the plane is left out."""
    nx, ny = (hu.shape[axis] // factors[axis] for axis in (0, 1))
    coarse = np.empty((-(-hu.shape[2] // factors[2]), ny, nx), dtype=np.float32)
    planes = hu[: nx * factors[0], : ny * factors[1]].transpose(2, 1, 0)
    blocks = (ny, factors[1], nx, factors[0])

    def average(part: slice) -> None:
        for index in range(part.start, part.stop):
            slab = planes[index * factors[2] : (index + 1) * factors[2]]
            if np.issubdtype(hu.dtype, np.integer):
                _block_means(slab, blocks, coarse[index])
            else:
                slab.reshape(len(slab), *blocks).mean(axis=(0, 2, 4), dtype=np.float32, out=coarse[index])

    each_slab(average, len(coarse))
    return coarse


def _block_means(slab: NDArray, blocks: tuple[int, int, int, int], means: NDArray[np.float32]) -> None:
    """Write the mean of each block of whole numbers: sums of them do not depend on the order."""
    ny, down, nx, across = blocks
    total = np.zeros((ny, nx * across), dtype=np.int32)
    for plane in slab:
        wide = plane.astype(np.int32)
        for first in range(down):
            total += wide[first::down]
    sums = total[:, ::across].copy()
    for first in range(1, across):
        sums += total[:, first::across]
    np.divide(sums, np.float32(len(slab) * down * across), out=means)


def _outside(
    hu: NDArray[np.float32],
    spacing: tuple[float, float, float],
    factors: tuple[int, int, int],
    shape: tuple[int, ...],
) -> Mask:
    """Return the coarse pixels [Y, X] outside of the circle of reconstruction, if there is one."""
    circle = circle_of_reconstruction(hu, spacing)
    if circle is None:
        return np.zeros(shape, dtype=bool)
    cut = circle[: shape[0] * factors[1], : shape[1] * factors[0]]
    return ~np.asarray(cut.reshape(shape[0], factors[1], shape[1], factors[0]).all(axis=(1, 3)))


def _body(coarse: NDArray[np.float32], steps: tuple[float, float], outside: Mask) -> Mask:
    """Return the body without table and outside air: the largest solid, its slices filled."""
    # The opening is bounded in mm: on coarse pixels one of 3 x 3 would take a thin chest wall away, and let
    # the air of that lung out.
    solid = opened_by_box(
        coarse > -400.0, (int(_BODY_OPENING_MM / steps[0]), int(_BODY_OPENING_MM / steps[1]))
    )
    labels, count = labelled(solid)
    if count == 0:
        return np.zeros(coarse.shape, dtype=bool)
    largest = labels == label_sizes(labels, count)[1:].argmax() + 1
    del labels
    # Gaps in the body wall (skin folds, the edge of the field of view) must not let the air out.
    framed = np.stack([_framed(plane, outside) for plane in closed_by_box(largest, (3, 3))])
    return (framed | holes(framed))[:, 1:-1, 1:-1] & ~outside


def _framed(plane: Mask, outside: Mask) -> Mask:
    """Return a slice with a frame: lungs cut by the field of view are closed at the sides, not above."""
    framed = np.pad(plane, 1)
    rows = np.flatnonzero(plane.any(axis=1))
    if len(rows):
        framed[rows[0] + 1 : rows[-1] + 2, [0, -1]] = True
        framed[rows[0] + 1 : rows[-1] + 2, 1:-1] |= outside[rows[0] : rows[-1] + 1]
    return framed


def _lung_pockets(
    air: Mask, coarse: NDArray[np.float32], steps: tuple[float, ...], settings: LungSettings
) -> Mask:
    """Return pockets of aerated lung: large enough, and no mere gas."""
    # One opening keeps fine bridges (oesophagus, stomach wall, chest wall) from joining pockets.
    opened = dilated(eroded(air, (0, 1, 2)), (0, 1, 2))
    kept, box = np.zeros(air.shape, dtype=bool), bounding_box(opened)
    if box is None:
        return kept
    # In the plane pockets fill half of the body; all slices stay, for what is the same on all is no lung.
    box = (slice(None), *box[1:])
    labels, count = labelled(opened[box])
    del opened
    voxel_ml = float(np.prod(steps)) / 1000.0
    counts, sums = np.zeros(count + 1), np.zeros(count + 1)
    for plane, values in zip(labels, coarse[box], strict=True):
        counts += np.bincount(plane.ravel(), minlength=count + 1)
        sums += np.bincount(plane.ravel(), values.ravel(), minlength=count + 1)
    volumes = counts * voxel_ml
    least_mean = np.where(volumes >= settings.gas_ml, settings.air_mean_hu, settings.gas_hu)
    dense = sums / np.maximum(counts, 1) >= least_mean
    keep = (volumes >= settings.least_ml) & dense
    keep[0] = False
    areas = {label: np.count_nonzero(labels == label, axis=(1, 2)) for label in np.flatnonzero(keep)}
    for label, profile in areas.items():
        # The inside of a table is the same on every slice; no lung is. Opening takes from the first and last.
        keep[label] = len(profile) < 3 or profile[1:-1].min() < 0.9 * profile[1:-1].max()
    if not keep.any():
        return kept
    largest = volumes[keep].max()
    # Beside real lungs, a pocket far below them or tiny in comparison is bowel.
    keep &= volumes >= 0.02 * largest
    main = np.flatnonzero(keep & (volumes == largest))[0]
    lowest = np.flatnonzero(areas[main])[0]
    for label in np.flatnonzero(keep):
        keep[label] = label == main or areas[label][lowest:].any()
    kept[box] = keep[labels]
    return dilated(kept, (0, 1, 2)) & air


def _sides(pockets: Mask, body: Mask) -> NDArray[np.uint8]:
    """Return 1 for the right and 2 for the left lung; joined lungs are cut where they touch."""
    sides = np.zeros(pockets.shape, dtype=np.uint8)
    columns, lungs = np.flatnonzero(body.any(axis=(0, 1))), bounding_box(pockets)
    if lungs is None or not len(columns):
        return sides
    middle = (columns[0] + columns[-1]) / 2.0 - lungs[2].start
    labels, _ = labelled(pockets[lungs])
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        pocket, inside = labels[box] == label, sides[lungs][box]
        # Joined lungs reach far to both sides of the body.
        profile = np.count_nonzero(pocket, axis=(0, 1))
        position = np.arange(box[2].start, box[2].stop)
        right_share = profile[position < int(middle)].sum() / profile.sum()
        if 0.15 < right_share < 0.85:
            cut = _cut(pocket, middle - box[2].start)
            inside[pocket] = cut[pocket]
        else:
            inside[pocket] = RIGHT if (profile * position).sum() / profile.sum() < middle else LEFT
    return sides


def _cut(pocket: Mask, middle: float) -> NDArray[np.uint8]:
    """Split a pocket into a right and a left part: erode until it falls apart, then grow the parts back."""
    # A frame of no lung, so that what touches the border of the box is eroded there too.
    pocket = np.pad(pocket, 1)
    core = pocket
    for _ in range(6):
        core = eroded_by_box(core, (1, 1))
        labels, count = labelled(core)
        if count < 2:
            continue
        sizes = np.bincount(labels.ravel())[1:]
        order = np.argsort(-sizes, kind="stable")
        first, second = int(order[0]) + 1, int(order[1]) + 1
        if sizes[second - 1] < 0.2 * sizes[first - 1]:
            continue
        centres = [_mean_column(labels == label) for label in (first, second)]
        right, left = (first, second) if centres[0] < centres[1] else (second, first)
        seeds = np.zeros(pocket.shape, dtype=np.uint8)
        seeds[labels == right], seeds[labels == left] = RIGHT, LEFT
        nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
        grown = np.stack([seeds[tuple(place)] for place in nearest.transpose(1, 0, 2, 3)])
        return grown[1:-1, 1:-1, 1:-1]
    halves = np.full(pocket.shape, LEFT, dtype=np.uint8)
    halves[:, :, : int(middle) + 1] = RIGHT
    return halves[1:-1, 1:-1, 1:-1]


def _mean_column(mask: Mask) -> float:
    profile = np.count_nonzero(mask, axis=(0, 1))
    return float((profile * np.arange(len(profile))).sum() / profile.sum())


def _with_opacities(
    sides: NDArray[np.uint8], coarse: NDArray[np.float32], airways: Mask, steps: tuple[float, ...]
) -> NDArray[np.uint8]:
    """Return the lungs with dense opacities inside of them and at the chest wall taken in."""
    whole = np.where(airways, 0, np.maximum(sides, wall_opacities(sides, coarse, steps)))
    for side in (RIGHT, LEFT):
        found = enclosed_opacities(whole == side)
        whole[found & (whole == 0) & ~airways] = side
    return whole


def _closed(
    sides: NDArray[np.uint8], airways: Mask, steps: tuple[float, ...], settings: LungSettings
) -> NDArray[np.uint8]:
    """Return the lungs with vessels, and opacities up to the closing width, taken in."""
    reach = (round(settings.closing_mm / steps[1]), round(settings.closing_mm / steps[2]))
    largest = settings.hole_mm2 / (steps[1] * steps[2])
    closed = np.zeros(sides.shape, dtype=np.uint8)
    # A closing stays inside the box around what it closes.
    for side in (RIGHT, LEFT):
        box = bounding_box(sides == side)
        if box is None:
            continue
        inside, other = closed[box], sides[box] == RIGHT + LEFT - side
        filled = closed_by_box(sides[box] == side, reach)
        # Larger holes are the heart or the dome of the diaphragm.
        filled |= holes(filled, largest)
        # The other lung, and what both claim, stays as it was.
        inside[filled & (inside == 0) & ~other & ~airways[box]] = side
    closed[sides > 0] = sides[sides > 0]
    return closed


def _outline(
    lungs: NDArray[np.uint8],
    hu: NDArray,
    closed: NDArray[np.uint8],
    air: Mask,
    airways: Mask,
    factors: tuple[int, int, int],
    settings: LungSettings,
) -> None:
    """Bring the lungs to full resolution; at the border of aerated lung the voxels' own HU decide."""
    in_plane = (1, 2)
    sure = eroded(closed > 0, in_plane) | ((closed > 0) & ~air)
    border = _grown_labels(closed)
    border[sure | dilated(airways, in_plane)] = 0
    # Both in one: what is lung whatever the voxels show, and four times what is lung where they show air.
    labels = np.where(sure, closed, 0).astype(np.uint8) | border << 2

    def refine(part: slice) -> None:
        # Slices first, as they lie in memory: indexing the other way is many times slower.
        for index in range(part.start, part.stop):
            values, plane = hu[:, :, index].T, lungs[:, :, index].T
            full = _full(labels[index // factors[2]], plane.shape, factors)
            plane[:] = full & 3 | (full >> 2) * (values < settings.air_hu)

    each_slab(refine, hu.shape[2])


def _grown_labels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return labels [Z, Y, X] grown by one pixel in the plane; the higher one where two meet."""
    grown = labels.copy()
    for axis in (1, 2):
        into, source = np.moveaxis(grown, axis, 0), np.moveaxis(labels, axis, 0)
        np.maximum(into[1:], source[:-1], out=into[1:])
        np.maximum(into[:-1], source[1:], out=into[:-1])
    return grown


def _full(
    coarse: NDArray[np.uint8], shape: tuple[int, ...], factors: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Return a coarse slice of labels [Y, X] at full resolution."""
    repeated = coarse.repeat(factors[1], axis=0).repeat(factors[0], axis=1)
    full = np.zeros(shape, dtype=np.uint8)
    full[: repeated.shape[0], : repeated.shape[1]] = repeated
    return full
