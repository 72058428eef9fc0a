"""Crops to the lungs as augmentation, for detectors that are later run on the lung box of a volume alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import NDArray
from scipy import ndimage

from covid_ct_mask_net.training.datasets.records import IMAGE, MASK

# Size (rows, columns) of the slice that an image is a crop of: crops keep the scale of the whole slice.
WHOLE_SHAPE = "whole_shape"
# -450 HU under the lung window: air and lung lie below, soft tissue and most consolidations above.
_LUNG_BELOW = 0.6
_LEAST_AREA = 0.01
_STEP = 32

Box = tuple[int, int, int, int]


class RandLungCropd(MapTransform, RandomizableTransform):
    """Crop a slice to a box around its lungs; lesions are never cut off.

    The sides of the box are multiples of 32 where the slice is large enough, as at inference. Slices whose
    lungs are not found (none there, or cropped already) stay whole.

    Parameters
    ----------
    prob : float
    margin : float
        Largest distance of the crop from the lungs, as a share of the slice's side.
    """

    def __init__(self, prob: float, margin: float = 0.06) -> None:
        MapTransform.__init__(self, keys=(IMAGE, MASK), allow_missing_keys=True)
        RandomizableTransform.__init__(self, prob)
        self.margin = margin

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with image and mask cropped alike, and the size of the whole slice."""
        result = dict(data)
        image = np.asarray(result[IMAGE][0])
        result[WHOLE_SHAPE] = (image.shape[0], image.shape[1])
        self.randomize(None)
        if not self._do_transform:
            return result
        lungs = lung_box(image)
        if lungs is None:
            return result
        shifts = self.R.uniform(0, self.margin, size=4) * np.repeat(image.shape, 2)
        wanted = [lungs]
        if MASK in result:
            lesions = ndimage.find_objects((np.asarray(result[MASK][0]) > 0).astype(np.uint8))
            wanted += [_limits(found) for found in lesions if found is not None]
        box = (
            min(one[0] for one in wanted) - int(shifts[0]),
            max(one[1] for one in wanted) + int(shifts[1]),
            min(one[2] for one in wanted) - int(shifts[2]),
            max(one[3] for one in wanted) + int(shifts[3]),
        )
        top, bottom = _whole_steps(box[0], box[1], image.shape[0])
        left, right = _whole_steps(box[2], box[3], image.shape[1])
        for key in self.key_iterator(result):
            result[key] = result[key][:, top:bottom, left:right]
        return result


def lung_box(image: NDArray[np.floating]) -> Box | None:
    """Return (top, bottom, left, right) of the lungs on a slice (H, W) in [0, 1], or None.

    Lungs are the dark regions that do not reach the border: outer air does, and so do lungs on slices that
    are cropped already. Dense lesions make holes in them that a box does not see.
    """
    dark, count = ndimage.label(image < _LUNG_BELOW)
    if not count:
        return None
    areas = np.bincount(dark.ravel(), minlength=count + 1)
    border = np.unique(np.concatenate([dark[0], dark[-1], dark[:, 0], dark[:, -1]]))
    inside = [
        label for label in range(1, count + 1)
        if areas[label] >= _LEAST_AREA * image.size and label not in border
    ]  # fmt: skip
    if not inside:
        return None
    boxes = [_limits(found) for found in ndimage.find_objects(np.isin(dark, inside).astype(np.uint8))]
    return boxes[0]


def _limits(found: tuple[slice, ...]) -> Box:
    rows, columns = found
    return rows.start, rows.stop, columns.start, columns.stop


def _whole_steps(start: int, stop: int, side: int) -> tuple[int, int]:
    """Grow an interval to a multiple of 32, as far as possible to both sides, within 0 to side."""
    start, stop = max(start, 0), min(stop, side)
    length = min(-(-(stop - start) // _STEP) * _STEP, side)
    start = max(min(start - (length - (stop - start)) // 2, side - length), 0)
    return start, start + length
