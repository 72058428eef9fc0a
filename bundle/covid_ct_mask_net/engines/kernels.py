"""What follows the convolutions on a CPU: top-k, decoding, NMS and RoIAlign, compiled by numba.

Each does what torchvision's operator of the same name does, in float32, up to rounding; ties go to the lower
index, as in torch. Feature maps are NHWC, so that the 256 channels of a place lie side by side. The kernels
hold no lock and use no threads: one worker a core calls them.
"""

from __future__ import annotations

import contextlib
import logging
import math
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.extending import overload
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Pooled = NDArray[np.float32] | NDArray[np.uint16]
Function = TypeVar("Function", bound=Callable[..., Any])

# torchvision's BoxCoder: exp(dw) is bounded by 1000 / 16.
_LARGEST_LOG_SIZE = np.float32(math.log(1000.0 / 16))
_ONE, _HALF, _ZERO = np.float32(1.0), np.float32(0.5), np.float32(0.0)


# What a full disk, and files that were cut off or altered, end in.
_DAMAGE = (OSError, EOFError, pickle.UnpicklingError, ValueError, LookupError, AttributeError)


class _MachineCode(FunctionCache):
    """Machine code on disk, which a kernel does without where the disk is full or what lies there damaged."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was kept for these types, or None."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except _DAMAGE as error:
            _without_cache("read", error)
            # What is damaged would be read again in each process.
            with contextlib.suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for these types, if possible."""
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except _DAMAGE as error:
            _without_cache("written", error)


@cache
def _warn() -> None:
    """Warn once a process: there are as many failures as kernels."""
    _log.warning(
        "Compiled kernels on disk cannot be used; they are compiled anew, which takes seconds at the start "
        "of each process. Make room in the cache folder (NUMBA_CACHE_DIR), or empty it."
    )


def _without_cache(what: str, error: Exception) -> None:
    _warn()
    _log.debug("A compiled kernel could not be %s: %s.", what, type(error).__name__)


def _kernel(function: Function) -> Function:
    """Compile a function, and keep the machine code beside the source or in the user's cache if possible."""
    kernel: Any = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)
    # A read-only installation without a home has no place: compiled anew in each process.
    with contextlib.suppress(RuntimeError):
        # What numba's own "cache=True" does, with a cache that may fail.
        kernel._cache = _MachineCode(function)  # type: ignore[no-untyped-call]
    return cast("Function", kernel)


@_kernel
def top_k(values: Floats, count: int) -> Integers:
    """Return indices of the ``count`` largest values (n,), largest first; equal values by index."""
    bits = values.view(np.uint32)
    # The upper half of a float, made to grow with the value, picks a bin: one pass instead of a sort.
    histogram = np.zeros(1 << 16, np.int64)
    for i in range(len(bits)):
        histogram[_bin(bits[i])] += 1
    wanted = min(count, len(values))
    cut, above = 1 << 16, 0
    while above < wanted:
        cut -= 1
        above += histogram[cut]
    candidates = np.empty(above, np.int64)
    found = 0
    for i in range(len(bits)):
        if _bin(bits[i]) >= cut:
            candidates[found] = i
            found += 1
    order = np.argsort(-values[candidates], kind="mergesort")
    return candidates[order[:wanted]]


@_kernel
def _bin(bits: Any) -> Any:
    high = bits >> np.uint32(16)
    if high & np.uint32(0x8000):
        return np.uint32(0xFFFF) - high
    return high | np.uint32(0x8000)


@_kernel
def decode(boxes: Floats, deltas: Floats, weights: Floats, height: np.float32, width: np.float32) -> Floats:
    """Return boxes (n, 4) moved by their deltas (n, 4) and clipped to an image; BoxCoder of torchvision."""
    decoded = np.empty((len(boxes), 4), np.float32)
    for i in range(len(boxes)):
        w, h = boxes[i, 2] - boxes[i, 0], boxes[i, 3] - boxes[i, 1]
        x, y = boxes[i, 0] + _HALF * w, boxes[i, 1] + _HALF * h
        x += deltas[i, 0] / weights[0] * w
        y += deltas[i, 1] / weights[1] * h
        w = math.exp(min(deltas[i, 2] / weights[2], _LARGEST_LOG_SIZE)) * w
        h = math.exp(min(deltas[i, 3] / weights[3], _LARGEST_LOG_SIZE)) * h
        decoded[i, 0] = min(max(x - _HALF * w, _ZERO), width)
        decoded[i, 1] = min(max(y - _HALF * h, _ZERO), height)
        decoded[i, 2] = min(max(x + _HALF * w, _ZERO), width)
        decoded[i, 3] = min(max(y + _HALF * h, _ZERO), height)
    return decoded


@_kernel
def nms(boxes: Floats, threshold: np.float32, most: int) -> Integers:
    """Return places of the boxes (n, 4), best first, that no better one overlaps by more than a threshold.

    Stops when ``most`` are kept.
    """
    n = len(boxes)
    x0, y0, x1, y1 = boxes[:, 0].copy(), boxes[:, 1].copy(), boxes[:, 2].copy(), boxes[:, 3].copy()
    areas = (x1 - x0) * (y1 - y0)
    dropped = np.zeros(n, np.uint8)
    kept = np.empty(min(n, most), np.int64)
    found = 0
    for i in range(n):
        if dropped[i]:
            continue
        if found == most:
            break
        kept[found] = i
        found += 1
        left, top, right, bottom, area = x0[i], y0[i], x1[i], y1[i], areas[i]
        for j in range(i + 1, n):
            w = max(_ZERO, min(right, x1[j]) - max(left, x0[j]))
            h = max(_ZERO, min(bottom, y1[j]) - max(top, y0[j]))
            shared = w * h
            dropped[j] |= np.uint8(shared / (area + areas[j] - shared) > threshold)
    return kept[:found]


@_kernel
def level_anchors(cells: Floats, places: Integers, columns: int, stride: Floats) -> Floats:
    """Return the anchors (n, 4) at flat places (row, column, anchor) of a level.

    Parameters
    ----------
    cells
        (A, 4): anchors around the origin.
    columns
        Width of the feature map.
    stride
        Pixels of the image between neighbouring rows and between neighbouring columns.
    """
    anchors = np.empty((len(places), 4), np.float32)
    for i in range(len(places)):
        cell, place = places[i] % len(cells), places[i] // len(cells)
        x, y = np.float32(place % columns) * stride[1], np.float32(place // columns) * stride[0]
        anchors[i, 0] = x + cells[cell, 0]
        anchors[i, 1] = y + cells[cell, 1]
        anchors[i, 2] = x + cells[cell, 2]
        anchors[i, 3] = y + cells[cell, 3]
    return anchors


@_kernel
def at_least(boxes: Floats, side: np.float32) -> Integers:
    """Return places of the boxes (n, 4) with both sides at least this long."""
    kept = np.empty(len(boxes), np.int64)
    found = 0
    for i in range(len(boxes)):
        if boxes[i, 2] - boxes[i, 0] >= side and boxes[i, 3] - boxes[i, 1] >= side:
            kept[found] = i
            found += 1
    return kept[:found]


@_kernel
def softmax(logits: Floats) -> Floats:
    """Return the softmax of each row (n, c)."""
    scores = np.empty_like(logits)
    for i in range(len(logits)):
        largest = logits[i].max()
        total = _ZERO
        for j in range(logits.shape[1]):
            scores[i, j] = math.exp(logits[i, j] - largest)
            total += scores[i, j]
        for j in range(logits.shape[1]):
            scores[i, j] /= total
    return scores


def _store(values: Floats, into: Any) -> None:
    """Store float32 numbers as they are, or rounded to the nearest bfloat16 into an array of uint16."""
    raise NotImplementedError


@overload(_store)
def _store_overload(values: Any, into: Any) -> Any:  # noqa: ARG001 - the types decide
    if into.dtype == numba.types.float32:

        def store(values: Any, into: Any) -> None:
            into[:] = values

        return store

    def store_bfloat16(values: Any, into: Any) -> None:
        bits = values.view(np.uint32)
        for c in range(len(bits)):
            # To the nearest, ties to even, as the processor's own conversion does.
            last = (bits[c] >> np.uint32(16)) & np.uint32(1)
            into[c] = np.uint16((bits[c] + np.uint32(0x7FFF) + last) >> np.uint32(16))

    return store_bfloat16


@_kernel
def roi_align(
    features: Floats, boxes: Floats, scale: np.float32, places: Integers, pooled: Pooled, side: int
) -> None:
    """Pool ``side`` x ``side`` bins of some boxes from one level, 2 x 2 samples a bin, not aligned.

    Parameters
    ----------
    features
        (H, W, C) of one level.
    boxes
        (n, 4) in pixels of the image.
    scale
        Of the level: cells a pixel.
    places
        Which boxes are pooled from this level.
    pooled
        (n, side * side, C): where the bins of box i are written, as float32, or as the bits of bfloat16 where
        it is of uint16.
    side
        Bins along each axis.
    """
    height, width, channels = features.shape
    bound_y, bound_x = np.float32(height), np.float32(width)
    flat = features.reshape(height * width * channels)
    rows, columns = np.empty((side, 4), np.int64), np.empty((side, 4), np.int64)
    row_shares, column_shares = np.empty((side, 4), np.float32), np.empty((side, 4), np.float32)
    row_counts, column_counts = np.empty(side, np.int64), np.empty(side, np.int64)
    out = np.empty(channels, np.float32)
    for i in places:
        x, y = boxes[i, 0] * scale, boxes[i, 1] * scale
        bin_w = max(boxes[i, 2] * scale - x, _ONE) / np.float32(side)
        bin_h = max(boxes[i, 3] * scale - y, _ONE) / np.float32(side)
        _samples(y, bin_h, bound_y, height, rows, row_shares, row_counts)
        _samples(x, bin_w, bound_x, width, columns, column_shares, column_counts)
        for row in range(side):
            for column in range(side):
                out[:] = _ZERO
                for v in range(row_counts[row]):
                    start, share = rows[row, v] * width, row_shares[row, v]
                    for u in range(0, column_counts[column], 2):
                        # Slices: indices into them are not negative, which lets the loop be vectorised.
                        a = flat[(start + columns[column, u]) * channels :][:channels]
                        b = flat[(start + columns[column, u + 1]) * channels :][:channels]
                        wa, wb = share * column_shares[column, u], share * column_shares[column, u + 1]
                        for c in range(channels):
                            out[c] += wa * a[c] + wb * b[c]
                _store(out, pooled[i, row * side + column])


@_kernel
def _samples(
    start: np.float32, size: np.float32, bound: np.float32, cells: int, at: Any, shares: Any, counts: Any
) -> None:
    """Set for each bin of one axis the two to four cells that its two samples lie between, and their shares.

    Both samples of a small bin lie between the same cells, whose shares are then added up: half the memory
    is read. A sample more than one cell outside of the map counts as zero; shares hold the division by the
    two samples. Where there are three cells a fourth has no share.
    """
    for k in range(len(at)):
        first = start + np.float32(k) * size + _HALF * size / np.float32(2.0)
        second = start + np.float32(k) * size + np.float32(1.5) * size / np.float32(2.0)
        low, high, low_share, high_share = _between(first, bound, cells)
        low_2, high_2, low_share_2, high_share_2 = _between(second, bound, cells)
        at[k, 0], at[k, 1], at[k, 2], at[k, 3] = low, high, low_2, high_2
        shares[k, 0], shares[k, 1], shares[k, 2], shares[k, 3] = (
            low_share, high_share, low_share_2, high_share_2,
        )  # fmt: skip
        counts[k] = 4
        if low_2 == low and high_2 == high:
            shares[k, 0] += low_share_2
            shares[k, 1] += high_share_2
            counts[k] = 2
        elif low_2 == high:
            shares[k, 1] += low_share_2
            at[k, 2], shares[k, 2] = high_2, high_share_2
            counts[k] = 3
            shares[k, 3] = _ZERO


@_kernel
def _between(at: np.float32, bound: np.float32, cells: int) -> Any:
    """Return the two cells that a position lies between and their shares, which add up to a half."""
    inside = _HALF if -_ONE <= at <= bound else _ZERO
    at = max(at, _ZERO)
    low = min(int(at), cells - 1) if inside > _ZERO else 0
    high = min(low + 1, cells - 1)
    share = at - np.float32(low) if high > low else _ZERO
    return low, high, (_ONE - share) * inside, share * inside
