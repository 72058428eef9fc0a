"""Items with Graphic Data that differ in their points alone.

A study has thousands of outlines. highdicom takes its time to make the item of one, and pydicom checks and
converts its coordinates one by one. Here the items of an image, or of a lesion, are copies of one that
highdicom made, and the coordinates are checked at once, as what they are.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

_GRAPHIC_DATA = Tag("GraphicData")
_NUMBER_OF_POINTS = Tag("NumberOfGraphicPoints")

PLACEHOLDER = np.zeros((2, 2))
"""Points for an item that is only a template."""

Item = TypeVar("Item", bound=Dataset)


def with_points(template: Item, points: NDArray[np.float64]) -> Item:
    """Return a copy of an item with other points; all else is shared between the two.

    Parameters
    ----------
    template : Dataset
        An SCOORD content item or a Graphic Object of type POLYLINE.
    points : NDArray
        float64 (n, 2) of (column, row), n at least 2.

    Raises
    ------
    ValueError
        If the points do not lie on an image.
    """
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise ValueError(
            f"A polyline has points of shape (n, 2), at least two, but these are {points.shape}."
        )
    if not (np.isfinite(points) & (points >= 0)).all():
        raise ValueError("Points of a polyline on an image are finite and not negative.")
    # copy.copy would leave both with one and the same dictionary of elements.
    item = type(template).__new__(type(template))
    Dataset.__init__(item)
    item.update(template)
    # Elements are shared, so these must be new ones, not new values.
    values = points.ravel().tolist()
    item[_GRAPHIC_DATA] = DataElement(_GRAPHIC_DATA, "FL", values, already_converted=True)
    if _NUMBER_OF_POINTS in template:
        item[_NUMBER_OF_POINTS] = DataElement(_NUMBER_OF_POINTS, "US", len(points))
    return item
