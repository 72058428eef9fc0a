"""Slices that show nothing: a scanner's image has noise, so one value throughout is a lost image."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.reduction import LOWEST_HU


def blank_slices(hu: NDArray) -> tuple[int, ...]:
    """Return the slices of a volume that show nothing.

    Parameters
    ----------
    hu : NDArray
        HU [X, Y, Z], clipped to the HU scale.

    Returns
    -------
    tuple of int
        Indices along the third axis, rising, of the slices whose voxels have one value; voxels at the lower
        end of the scale, which may be padding around the image, do not count.
    """
    # Every fourth voxel is enough to tell an image from nothing; the others are for what looks like nothing.
    planes = hu.transpose(2, 1, 0)
    return tuple(
        index for index, plane in enumerate(planes) if _is_blank(plane[::4, ::4]) and _is_blank(plane)
    )


def _is_blank(plane: NDArray) -> bool:
    shown = plane[plane > LOWEST_HU]
    return not shown.size or bool(shown.min() == shown.max())


def shown_range(blank: Collection[int], count: int) -> slice:
    """Return the slices of a volume from the first that shows something to the last.

    Parameters
    ----------
    blank : collection of int
        Slices that show nothing; not all of them.
    count : int
        Slices of the volume.
    """
    shown = [index for index in range(count) if index not in set(blank)]
    return slice(shown[0], shown[-1] + 1)


def fill_inside(hu: NDArray, blank: Collection[int]) -> tuple[int, ...]:
    """Interpolate blank slices linearly between the nearest others, in place; those at the ends stay.

    Parameters
    ----------
    hu : NDArray
        HU [X, Y, Z].
    blank : collection of int
        From ``blank_slices``; not all slices.

    Returns
    -------
    tuple of int
        The slices that were filled, rising.
    """
    filled = []
    shown = np.setdiff1d(np.arange(hu.shape[2]), sorted(blank))
    for low, high in pairwise(shown.tolist()):
        for place in range(low + 1, high):
            share = np.float32((place - low) / (high - low))
            between = hu[:, :, low] * (1 - share) + hu[:, :, high] * share
            hu[:, :, place] = np.rint(between) if hu.dtype.kind == "i" else between
            filled.append(place)
    return tuple(filled)
