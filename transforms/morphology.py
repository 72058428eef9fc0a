"""Binary morphology on stacks of slices: what SciPy's functions of these names give, many times faster.

SciPy goes through a mask voxel by voxel with a list of neighbours. Here a mask is combined with itself, moved
by some voxels, one pass of the processor's vector unit each; what stays within a slice is done slice by
slice, in the cache, and on all cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from covid_ct_mask_net.engines.base import worker_count

Mask = NDArray[np.bool_]

# Slices that a thread takes at a time.
_SLAB = 16


def each_slab(step: Callable[[slice], object], count: int) -> None:
    """Call a step with ranges that make up ``count`` slices, on all cores; the order is not defined."""
    slabs = [slice(start, min(start + _SLAB, count)) for start in range(0, count, _SLAB)]
    with ThreadPoolExecutor(worker_count(0), thread_name_prefix="slabs") as pool:
        for _ in pool.map(step, slabs):
            pass


def dilated(mask: Mask, axes: Sequence[int]) -> Mask:
    """Return a mask with the direct neighbours of its voxels along some axes."""
    grown = mask.copy()
    for axis in axes:
        into, source = np.moveaxis(grown, axis, 0), np.moveaxis(mask, axis, 0)
        into[1:] |= source[:-1]
        into[:-1] |= source[1:]
    return grown


def eroded(mask: Mask, axes: Sequence[int], *, outside: bool = False) -> Mask:
    """Return a mask without voxels that have a direct neighbour along some axes that is not set.

    ``outside`` is what lies outside of the array.
    """
    cleared = mask.copy()
    for axis in axes:
        into, source = np.moveaxis(cleared, axis, 0), np.moveaxis(mask, axis, 0)
        into[1:] &= source[:-1]
        into[:-1] &= source[1:]
        into[0] &= outside
        into[-1] &= outside
    return cleared


def eroded_by_box(planes: Mask, reach: tuple[int, int]) -> Mask:
    """Return where a rectangle lies wholly in a slice [Z, Y, X]; nothing lies outside of the array.

    ``reach`` is how far the rectangle goes to both sides of its middle, along rows and columns.
    """
    return _plane_by_plane(planes, lambda plane: _swept(plane, reach, np.logical_and))


def opened_by_box(planes: Mask, reach: tuple[int, int]) -> Mask:
    """Return the opening of each slice [Z, Y, X] by a rectangle; nothing lies outside of the array."""
    return _plane_by_plane(
        planes, lambda plane: _swept(_swept(plane, reach, np.logical_and), reach, np.logical_or)
    )


def closed_by_box(planes: Mask, reach: tuple[int, int]) -> Mask:
    """Return the closing of each slice [Z, Y, X] by a rectangle, as if slices went on without an end."""
    rows, columns = reach
    height, width = planes.shape[1:]

    def closed(plane: Mask) -> Mask:
        grown = _swept(np.pad(plane, ((rows, rows), (columns, columns))), reach, np.logical_or)
        return _swept(grown, reach, np.logical_and)[rows : rows + height, columns : columns + width]

    return _plane_by_plane(planes, closed)


def holes(planes: Mask, largest: float = np.inf) -> Mask:
    """Return the holes of each slice: what is not set and has no way to the edge of the slice.

    Parameters
    ----------
    planes : NDArray
        bool [Z, Y, X].
    largest : float
        Larger holes are left out, pixels.
    """
    in_plane = np.zeros((3, 3, 3), dtype=bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    found = np.empty(planes.shape, dtype=bool)

    def fill(part: slice) -> None:
        labels, count = ndimage.label(~planes[part], structure=in_plane)
        hole = np.bincount(labels.ravel(), minlength=count + 1) <= largest
        hole[0] = False
        for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
            hole[edge.ravel()] = False
        np.take(hole, labels, out=found[part])

    each_slab(fill, len(planes))
    return found


def labelled(mask: Mask) -> tuple[NDArray[np.integer[Any]], int]:
    """Return what ``ndimage.label`` does, in 16 bits a voxel where they tell all components apart."""
    try:
        labels, count = ndimage.label(mask, output=np.uint16)
    except RuntimeError:
        labels, count = ndimage.label(mask)
    return labels, count


def label_sizes(labels: NDArray[np.integer[Any]], count: int) -> NDArray[np.int64]:
    """Return the voxels of each label from 0 to ``count``, as ``bincount`` does, without a copy of all."""
    sizes = np.zeros(count + 1, dtype=np.int64)
    for start in range(0, len(labels), _SLAB):
        sizes += np.bincount(labels[start : start + _SLAB].ravel(), minlength=count + 1)
    return sizes


def bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    """Return the box around what is set, or None if nothing is."""
    box = []
    for axis in range(mask.ndim):
        profile = mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis))
        places = np.flatnonzero(profile)
        if not len(places):
            return None
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)


def _plane_by_plane(planes: Mask, change: Callable[[Mask], Mask]) -> Mask:
    changed = np.empty(planes.shape, dtype=bool)

    def step(part: slice) -> None:
        for plane, place in zip(planes[part], changed[part], strict=True):
            place[:] = change(plane)

    each_slab(step, len(planes))
    return changed


def _swept(plane: Mask, reach: tuple[int, int], combine: np.ufunc) -> Mask:
    """Return what ``combine`` makes of the rectangle around each pixel; nothing lies outside."""
    (rows, columns), (height, width) = reach, (2 * reach[0] + 1, 2 * reach[1] + 1)
    swept = np.pad(plane, ((rows, rows), (columns, columns)))
    done = 1
    # Of windows half as wide, until they are wide enough.
    while done < height:
        step = min(done, height - done)
        swept = combine(swept[:-step], swept[step:])
        done += step
    done = 1
    while done < width:
        step = min(done, width - done)
        swept = combine(swept[:, :-step], swept[:, step:])
        done += step
    return swept
