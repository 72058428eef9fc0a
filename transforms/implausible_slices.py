"""Slices that nothing around them explains: pixels that were damaged in a way no decoder notices."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

# Longer runs look like a part of the volume.
_LONGEST_RUN = 3
# So much is usual in any volume, in HU.
_USUAL_HU = 10.0
# The slices around damaged ones differ so much less; beside a gap, or where anatomy changes fast, not.
_AGREEMENT = 2.0
# Every so many pixels are enough.
_STEP = 4

Differences = NDArray[np.float64]


def implausible_slices(hu: NDArray[np.float32], jump: float) -> tuple[int, ...]:
    """Return the slices that differ from those around them out of all proportion.

    Runs of up to three are found. Inside the volume a run is compared with what the slices before and behind
    it suggest, in a line from one to the other, at an end with the next slice. Each of its slices must differ
    by more than a multiple of what is usual in the volume at this distance, and by more than twice what the
    slices around it differ from each other. A slice that differs so much from both of its neighbours is found
    in any place, as are those of a longer run of noise.

    Parameters
    ----------
    hu : NDArray
        HU [X, Y, Z].
    jump : float
        The multiple.

    Returns
    -------
    tuple of int
        Indices along the third axis, rising; none for fewer than five slices.
    """
    count = hu.shape[2]
    if count < _LONGEST_RUN + 2:
        return ()
    apart, off = _differences(hu)
    least = {steps: jump * _usual(pairs) for steps, pairs in apart.items()}
    alone = (apart[1][:-1] > least[1]) & (apart[1][1:] > least[1])
    found = {int(index) + 1 for index in np.flatnonzero(alone)}
    for length, run in off.items():
        least_off = np.maximum(jump * _usual(run), _AGREEMENT * apart[length + 1])
        for before in np.flatnonzero((run > least_off[:, None]).all(axis=1)):
            found.update(range(before + 1, before + 1 + length))
    return tuple(sorted(found | _at_ends(apart, least, found, count)))


def _at_ends(apart: dict[int, Differences], least: dict[int, float], found: set[int], count: int) -> set[int]:
    """Return the slices at the ends of a volume that the two slices behind them speak against.

    Parameters
    ----------
    apart : dict of int to NDArray
        See ``_differences``.
    least : dict of int to float
        From where on such differences are out of proportion.
    found : set of int
        Slices found inside the volume, which speak against none.
    count : int
        Slices of the volume.
    """
    ends: set[int] = set()
    for order in (1, -1):
        places = range(count)[::order]
        from_end = {steps: pairs[::order] for steps, pairs in apart.items()}
        for length in range(1, _LONGEST_RUN + 1):
            agreed = _AGREEMENT * from_end[1][length]
            if found.isdisjoint(places[length : length + 2]) and all(
                from_end[length - index][index] > max(least[length - index], agreed)
                for index in range(length)
            ):
                ends.update(places[:length])
    return ends


def _differences(hu: NDArray[np.float32]) -> tuple[dict[int, Differences], dict[int, Differences]]:
    """Return mean differences of pixels in HU.

    Returns
    -------
    apart : dict of int to NDArray
        By number of slices from the one to the other: (pairs,).
    off : dict of int to NDArray
        By length of a run: of each of its slices to what is interpolated between those around the run, (runs,
        length).
    """
    apart: dict[int, list[float]] = {steps: [] for steps in range(1, _LONGEST_RUN + 2)}
    off: dict[int, list[list[float]]] = {length: [] for length in range(1, _LONGEST_RUN + 1)}
    # A few slices at a time: a volume may be as large as memory allows.
    last: deque[NDArray[np.float32]] = deque(maxlen=_LONGEST_RUN + 2)
    for plane in hu.transpose(2, 1, 0)[:, ::_STEP, ::_STEP]:
        last.append(plane.astype(np.float32))
        for steps in range(1, len(last)):
            before, behind = last[-1 - steps], last[-1]
            apart[steps].append(_mean(behind - before))
            if steps > 1:
                slope = (behind - before) / np.float32(steps)
                run = [_mean(last[step - 1 - steps] - before - step * slope) for step in range(1, steps)]
                off[steps - 1].append(run)
    return {k: np.array(v) for k, v in apart.items()}, {k: np.array(v) for k, v in off.items()}


def _mean(difference: NDArray[np.float32]) -> float:
    return float(np.abs(difference).mean(dtype=np.float64))


def _usual(differences: Differences) -> float:
    return max(float(np.median(differences)), _USUAL_HU)
