"""Augmentation of slices with their masks, as MONAI dictionary transforms, before targets are made.

The paper augments nothing; this is an option of the training configurations (off for the paper's protocol).
Random transforms are seeded through `monai.utils.set_determinism` or ``Compose.set_random_state``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    MapTransform,
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandomizableTransform,
    RandZoomd,
)
from scipy import ndimage

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.datasets.records import IMAGE, MASK

_BOTH = (IMAGE, MASK)


def slice_augmentation(probability: float = 0.3, seed: int | None = None) -> Compose:
    """Return crop, mirror, scale, gamma, window shift, blur and noise, each with the same probability.

    Parameters
    ----------
    probability : float
        Of each step, in [0, 1].
    seed : int, optional
        Of all steps; without it they follow MONAI's global seed.

    Notes
    -----
    Images stay in [0, 1]. Mirroring left to right puts the heart on the wrong side, which lesion appearance
    does not depend on; slices are never mirrored front to back.
    """
    if not 0 <= probability <= 1:
        raise UsageError("PROBABILITY", f"The probability is {probability}, but must lie in 0 to 1.")
    steps = [
        RandLungBoxCropd(prob=probability),
        RandFlipd(_BOTH, prob=probability, spatial_axis=1, allow_missing_keys=True),
        RandZoomd(
            _BOTH, prob=probability, min_zoom=0.8, max_zoom=1.2, mode=("bilinear", "nearest"),
            padding_mode="constant", allow_missing_keys=True,
        ),
        RandAdjustContrastd(IMAGE, prob=probability, gamma=(0.7, 1.5)),
        RandWindowShiftd(prob=probability),
        RandGaussianSmoothd(IMAGE, prob=probability, sigma_x=(0.3, 1.2), sigma_y=(0.3, 1.2)),
        RandGaussianNoised(IMAGE, prob=probability, std=0.03),
        ClampUnitd(),
    ]  # fmt: skip
    return Compose(steps).set_random_state(seed) if seed is not None else Compose(steps)


class RandLungBoxCropd(MapTransform, RandomizableTransform):
    """Crop to a box around the chest, as cropped collections are; lesions are never cut off.

    Parameters
    ----------
    prob : float
    air : float
        Pixels above this value count as body.
    margin : float
        Largest distance of the crop from the body's box, as a share of the slice's side; may be negative
        (into the body wall) by the same share.
    """

    def __init__(self, prob: float = 0.3, air: float = 0.25, margin: float = 0.08) -> None:
        MapTransform.__init__(self, keys=_BOTH, allow_missing_keys=True)
        RandomizableTransform.__init__(self, prob)
        self.air = air
        self.margin = margin

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with image and mask cropped alike."""
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        image = result[IMAGE]
        offsets = self.R.uniform(-self.margin, self.margin, size=4)
        box = self._box(np.asarray(image[0]), offsets)
        if MASK in result:
            box = _including(box, np.asarray(result[MASK][0]) > 0)
        top, bottom, left, right = box
        for key in self.key_iterator(result):
            result[key] = result[key][:, top:bottom, left:right]
        return result

    def _box(self, image: np.ndarray, offsets: np.ndarray) -> tuple[int, int, int, int]:
        rows, columns = image.shape
        body = _bounds(image > self.air)
        if body is None:
            return 0, rows, 0, columns
        shifts = (offsets * [rows, rows, columns, columns]).astype(int)
        top, bottom = max(body[0] + shifts[0], 0), min(body[1] + shifts[1], rows)
        left, right = max(body[2] + shifts[2], 0), min(body[3] + shifts[3], columns)
        # A crop of less than a quarter of the slice is no chest any more.
        if bottom - top < rows // 4 or right - left < columns // 4:
            return 0, rows, 0, columns
        return int(top), int(bottom), int(left), int(right)


class RandWindowShiftd(MapTransform, RandomizableTransform):
    """Shift and stretch the intensity window, for 8-bit collections do not say theirs.

    Parameters
    ----------
    prob : float
    shift : float
        Largest shift of the window's centre, as a share of its width (0.1 of 1500 HU is 150 HU).
    stretch : float
        Largest relative change of its width.
    """

    def __init__(self, prob: float = 0.3, shift: float = 0.1, stretch: float = 0.2) -> None:
        MapTransform.__init__(self, keys=(IMAGE,))
        RandomizableTransform.__init__(self, prob)
        self.shift = shift
        self.stretch = stretch

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with the image under another window, in [0, 1]."""
        result = dict(data)
        self.randomize(None)
        if self._do_transform:
            shift = self.R.uniform(-self.shift, self.shift)
            stretch = 1 + self.R.uniform(-self.stretch, self.stretch)
            result[IMAGE] = shifted_window(result[IMAGE], shift, stretch)
        return result


class ClampUnitd(MapTransform):
    """Bring the image back into [0, 1] after noise and interpolation."""

    def __init__(self) -> None:
        super().__init__(keys=(IMAGE,))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with the image clamped, as a plain float32 tensor."""
        result = dict(data)
        image = torch.as_tensor(result[IMAGE])
        result[IMAGE] = image.clamp(0, 1).as_subclass(torch.Tensor).float()
        if MASK in result:
            # Zooming makes masks float; values are whole, for they are taken from the nearest pixel.
            result[MASK] = torch.as_tensor(result[MASK]).as_subclass(torch.Tensor).round().to(torch.uint8)
        return result


def shifted_window(image: torch.Tensor, shift: float, stretch: float = 1.0) -> torch.Tensor:
    """Return the image in [0, 1] as it looks under another window.

    Parameters
    ----------
    image : tensor in [0, 1]
    shift : float
        Of the window's centre, as a share of its width; a positive shift darkens.
    stretch : float
        New width over old width.
    """
    return (((image - 0.5 - shift) / stretch) + 0.5).clamp(0, 1)


def _bounds(inside: np.ndarray) -> tuple[int, int, int, int] | None:
    found = ndimage.find_objects(inside.astype(np.uint8))
    if not found:
        return None
    rows, columns = found[0]
    return rows.start, rows.stop, columns.start, columns.stop


def _including(box: tuple[int, int, int, int], lesions: np.ndarray) -> tuple[int, int, int, int]:
    needed = _bounds(lesions)
    if needed is None:
        return box
    return min(box[0], needed[0]), max(box[1], needed[1]), min(box[2], needed[2]), max(box[3], needed[3])
