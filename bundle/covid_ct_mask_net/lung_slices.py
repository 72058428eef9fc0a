"""The slices that the networks read, cut out of the volume when they are asked for.

All of them at once would be a second volume, of four bytes a voxel.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import SupportsIndex, cast

import torch
from torch import Tensor

from covid_ct_mask_net.slice_crop import SliceCrop


class LungSlices:
    """Slices of a canonical volume, as a tensor float32 (N, 1, H, W) would hold them.

    Rows run to posterior and columns to the patient's left.

    Parameters
    ----------
    volume : Tensor
        Canonical [X, Y, Z].
    indices : sequence of int
        Slices along the third axis.
    box : SliceCrop
        Part of each slice.
    scale : callable, optional
        What becomes of the values of a slice.
    """

    def __init__(
        self,
        volume: Tensor,
        indices: Sequence[int],
        box: SliceCrop,
        scale: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._volume = volume
        self._indices = [int(index) for index in indices]
        self._box = box
        self._scale = scale

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def shape(self) -> torch.Size:
        """(N, 1, H, W)."""
        return torch.Size((len(self), 1, self._box.height, self._box.width))

    def __getitem__(self, places: SupportsIndex | slice | Sequence[SupportsIndex]) -> Tensor:
        """Return one slice (1, H, W), or several (n, 1, H, W), in memory of their own."""
        if isinstance(places, slice):
            chosen = self._indices[places]
        elif isinstance(places, Sequence) or getattr(places, "ndim", None):
            several = cast("Sequence[SupportsIndex]", places)
            chosen = [self._indices[operator.index(place)] for place in several]
        else:
            return self._plane(self._indices[operator.index(places)])
        return torch.stack([self._plane(i) for i in chosen]) if chosen else torch.empty((0, *self.shape[1:]))

    def scaled(self, scale: Callable[[Tensor], Tensor]) -> LungSlices:
        """Return the same slices with other values; ``scale`` is given one slice (1, H, W) at a time."""
        if self._scale is not None:
            raise ValueError("The slices are scaled already.")
        return LungSlices(self._volume, self._indices, self._box, scale)

    def _plane(self, index: int) -> Tensor:
        box = self._box
        plane = self._volume[:, :, index].T
        plane = plane[box.top : box.top + box.height, box.left : box.left + box.width][None]
        plane = plane.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        return plane if self._scale is None else self._scale(plane)
