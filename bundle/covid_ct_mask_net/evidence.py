"""What the networks say about single slices, in a form small enough to keep for a whole volume.

Coordinates here are those of the *display slice*: row 0 is anterior, column 0 is the patient's right
(radiological display), pixels of the canonical LPS volume. ``slice_index`` counts along its third axis,
from inferior to superior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.labels import LesionClass


@dataclass(frozen=True, eq=False)
class LesionInstance:
    """One lesion on one slice: a Mask R-CNN detection that passed the score threshold.

    Attributes
    ----------
    slice_index
        Index of the slice in the canonical volume (third axis, inferior to superior).
    lesion_class
        Type of the lesion.
    score
        Softmax score of the detection, 0 to 1.
    box
        ``(x0, y0, x1, y1)`` in pixels of the display slice; x is the column, y is the row.
    offset
        ``(row, column)`` of ``mask[0, 0]`` in the display slice.
    mask
        bool, shape (h, w): the pixels of the lesion inside the box, cropped to where it lies.
    """

    slice_index: int
    lesion_class: LesionClass
    score: float
    box: tuple[float, float, float, float]
    offset: tuple[int, int]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SliceEvidence:
    """Everything the networks say about one slice.

    Attributes
    ----------
    slice_index
        Index of the slice in the canonical volume (third axis, inferior to superior).
    logits
        Output of S in class order Control, Common Pneumonia, COVID-19.
    instances
        Lesions of the slice, highest score first.
    lesion_score
        Highest score of those that lie in the lungs and are large enough, 0 where there are none.
    """

    slice_index: int
    logits: tuple[float, float, float]
    instances: tuple[LesionInstance, ...] = ()
    lesion_score: float = 0.0
