"""The part of a volume's slices that the networks read: all of it, or one box around the lungs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

# Networks halve a slice five times; other sizes would be padded to this multiple.
BOX_MULTIPLE = 32


class Crop(StrEnum):
    """What the networks are shown of a slice."""

    NONE = "none"
    LUNGS = "lungs"


@dataclass(frozen=True)
class SliceCrop:
    """A box that is cut out of every slice of a volume.

    Attributes
    ----------
    top, left
        First row and column of the box in the display slice.
    height, width
        Its size in pixels.
    full_height, full_width
        Size of the slices. Crops are resized for the network as whole slices of this size are.
    """

    top: int
    left: int
    height: int
    width: int
    full_height: int
    full_width: int

    def __post_init__(self) -> None:
        inside = (
            0 <= self.top < self.top + self.height <= self.full_height
            and 0 <= self.left < self.left + self.width <= self.full_width
        )
        if not inside:
            raise ValueError(f"The box {self} does not lie in its slice.")

    @property
    def share(self) -> float:
        """Share of the slice that is read, in (0, 1]."""
        return self.height * self.width / (self.full_height * self.full_width)


def lung_box(lungs: NDArray, margin: tuple[int, int], multiple: int = BOX_MULTIPLE) -> SliceCrop:
    """Return one box that holds the lungs of all slices.

    Parameters
    ----------
    lungs : NDArray
        [slices, rows, columns], true or nonzero in the lungs.
    margin : (int, int)
        Rows and columns to leave around the lungs.
    multiple : int
        Height and width are multiples of this many pixels where the slice is large enough.

    Returns
    -------
    SliceCrop
        The whole slice where there are no lungs.
    """
    _, rows, columns = lungs.shape
    shadow = np.any(lungs, axis=0)
    if not shadow.any():
        return SliceCrop(0, 0, rows, columns, rows, columns)
    row_places, column_places = (np.flatnonzero(np.any(shadow, axis=axis)) for axis in (1, 0))
    top, height = _extent(row_places, margin[0], rows, multiple)
    left, width = _extent(column_places, margin[1], columns, multiple)
    return SliceCrop(top, left, height, width, rows, columns)


def _extent(places: NDArray[np.int64], margin: int, full: int, multiple: int) -> tuple[int, int]:
    """Return start and length of the part of one axis that holds these places."""
    first, last = max(int(places[0]) - margin, 0), min(int(places[-1]) + margin + 1, full)
    length = min(-(-(last - first) // multiple) * multiple, full)
    # What is added goes to both sides, as far as the slice reaches.
    start = min(max(first - (length - (last - first)) // 2, 0), full - length)
    return start, length
