"""Slices changed on purpose: what should not change a class (robustness), and what should (controls).

Roberts et al. (2021): 8-bit collections hide their window and format, and networks learn borders, tables and
markers instead of lungs. Every change works on a slice (1, H, W) in [0, 1] and needs nothing but the slice.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.augmentation import shifted_window
from covid_ct_mask_net.training.datasets.records import IMAGE, Record
from covid_ct_mask_net.training.predictions import MAIN

CHANGE = "change"
# -450 HU under the lung window: air and lung lie below, soft tissue above.
_LUNG_BELOW = 0.6
# Smaller dark regions inside the body are airways or bowel gas.
_LEAST_LUNG = 0.005
_CLOSING = 0.02
_THIN = 0.008


def jpeg(image: Tensor, quality: int) -> Tensor:
    """Return the slice after JPEG compression as 8-bit grey."""
    content = io.BytesIO()
    pixels = (image[0] * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    Image.fromarray(pixels).save(content, "JPEG", quality=quality)
    with Image.open(content) as stored:
        return torch.from_numpy(np.asarray(stored, dtype=np.float32) / 255)[None]


def rotated(image: Tensor, degrees: float) -> Tensor:
    """Return the slice turned about its centre; what comes in at the corners is air."""
    turned = ndimage.rotate(image[0].numpy(), degrees, reshape=False, order=1, mode="constant", cval=0.0)
    return torch.from_numpy(turned.astype(np.float32))[None].clamp(0, 1)


def respaced(image: Tensor, factor: float) -> Tensor:
    """Return the slice as with another pixel spacing: the anatomy larger (factor above 1) or smaller.

    The size of the slice stays: it is cropped, or surrounded by air.
    """
    zoomed = ndimage.zoom(image[0].numpy(), factor, order=1)
    result = np.zeros(image.shape[-2:], dtype=np.float32)
    source, target = [], []
    for old, new in zip(zoomed.shape, result.shape, strict=True):
        length = min(old, new)
        source.append(slice((old - length) // 2, (old - length) // 2 + length))
        target.append(slice((new - length) // 2, (new - length) // 2 + length))
    result[tuple(target)] = zoomed[tuple(source)]
    return torch.from_numpy(result)[None].clamp(0, 1)


def coarser(image: Tensor, factor: float) -> Tensor:
    """Return the slice as reconstructed on a coarser grid and brought back to its size."""
    size = [max(1, round(side / factor)) for side in image.shape[-2:]]
    small = torch.nn.functional.interpolate(image[None], size=size, mode="area")
    return torch.nn.functional.interpolate(
        small, size=tuple(image.shape[-2:]), mode="bilinear", align_corners=False
    )[0]


def lungs_erased(image: Tensor) -> Tensor:
    """Return the slice with its lungs filled with the median grey of the body: no evidence is left."""
    pixels = image[0].numpy().copy()
    body, lungs = body_and_lungs(pixels)
    if lungs.any():
        solid = pixels[body & ~lungs]
        pixels[lungs] = float(np.median(solid)) if solid.size else 0.0
    return torch.from_numpy(pixels)[None]


def only_lungs(image: Tensor) -> Tensor:
    """Return the lungs alone, on black."""
    pixels = image[0].numpy()
    return torch.from_numpy(np.where(body_and_lungs(pixels)[1], pixels, 0).astype(np.float32))[None]


def border_removed(image: Tensor) -> Tensor:
    """Return the slice with all outside of the body black: no table, marker or frame."""
    pixels = image[0].numpy()
    return torch.from_numpy(np.where(body_and_lungs(pixels)[0], pixels, 0).astype(np.float32))[None]


def body_and_lungs(pixels: NDArray[np.floating]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the body, lungs included, and the lungs on a slice (H, W) in [0, 1].

    Lungs are dark regions inside the body, closed so that dense lesions and vessels belong to them. On slices
    that are cropped into the body, dark regions may reach the border; those on its rim are taken for outer
    air, so lungs that are cut off are missed.
    """
    # Opening parts the body from table and cushions, which touch it in thin lines.
    thin = max(1, round(_THIN * max(pixels.shape)))
    parts, count = ndimage.label(ndimage.binary_opening(pixels > _LUNG_BELOW, iterations=thin))
    if not count:
        return np.zeros(pixels.shape, dtype=bool), np.zeros(pixels.shape, dtype=bool)
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    body = ndimage.binary_fill_holes(largest)
    dark, count = ndimage.label((pixels < _LUNG_BELOW) & body)
    areas = np.bincount(dark.ravel(), minlength=count + 1)
    large = [label for label in range(1, count + 1) if areas[label] >= _LEAST_LUNG * pixels.size]
    lungs = np.isin(dark, large)
    if not lungs.any():
        return body, lungs
    reach = max(1, round(_CLOSING * max(pixels.shape)))
    closed = ndimage.binary_closing(np.pad(lungs, reach), iterations=reach)[reach:-reach, reach:-reach]
    return body, ndimage.binary_fill_holes(closed) & body


ROBUSTNESS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "window-brighter": lambda image: shifted_window(image, -0.1),
    "window-darker": lambda image: shifted_window(image, 0.1),
    "window-narrower": lambda image: shifted_window(image, 0.0, 0.8),
    "window-wider": lambda image: shifted_window(image, 0.0, 1.25),
    "jpeg-90": lambda image: jpeg(image, 90),
    "jpeg-50": lambda image: jpeg(image, 50),
    "rotation-plus-5": lambda image: rotated(image, 5),
    "rotation-minus-5": lambda image: rotated(image, -5),
    "rotation-plus-10": lambda image: rotated(image, 10),
    "spacing-0.8": lambda image: respaced(image, 1.25),
    "spacing-1.25": lambda image: respaced(image, 0.8),
    "grid-1.5": lambda image: coarser(image, 1.5),
}
CONTROLS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "lungs-erased": lungs_erased,
    "only-lungs": only_lungs,
    "border-removed": border_removed,
}
PREFIXES = {"robustness-": ROBUSTNESS, "control-": CONTROLS}


def all_changes() -> list[str]:
    """Return the names of all changes as evaluations have them, for example ``robustness-jpeg-50``."""
    return [prefix + name for prefix, changes in PREFIXES.items() for name in changes]


def changed_evaluation(evaluation: str, change: str) -> str:
    """Return the name of an evaluation of changed slices: that of the change for the main one's slices.

    Others have their own before it (``elsewhere-robustness-jpeg-50``), so that none replaces another's.
    """
    return change if evaluation == MAIN else f"{evaluation}-{change}"


def change_in(name: str) -> tuple[str, str] | None:
    """Return which evaluation's slices were changed and how, by the name of the changed ones; None if none.

    The opposite of `changed_evaluation`.
    """
    if name.startswith(tuple(PREFIXES)):
        return MAIN, name
    for change in all_changes():
        if name.endswith(f"-{change}"):
            return name.removesuffix(f"-{change}"), change
    return None


def changed(image: Tensor, name: str) -> Tensor:
    """Return a slice under a change by its name.

    Raises
    ------
    UsageError
        If there is no such change; the sentence lists them.
    """
    for prefix, changes in PREFIXES.items():
        if name.startswith(prefix) and name.removeprefix(prefix) in changes:
            return changes[name.removeprefix(prefix)](image)
    raise UsageError("CHANGE", f"There is no change {name!r}; there are {', '.join(all_changes())}.")


class ChangeSliced(MapTransform):
    """Change ``image`` as ``change`` says; dictionaries without it stay as they are."""

    def __init__(self) -> None:
        super().__init__(keys=(IMAGE,))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with the changed image."""
        result = dict(data)
        name = result.get(CHANGE)
        if name is not None:
            result[IMAGE] = changed(torch.as_tensor(result[IMAGE]), name)
        return result


def under_changes(records: Sequence[Record], names: Sequence[str]) -> list[Record]:
    """Return every slice once for each change, change by change.

    Raises
    ------
    UsageError
        If a name is unknown.
    """
    known = all_changes()
    strange = [name for name in names if name not in known]
    if strange:
        raise UsageError("CHANGE", f"There is no change {strange[0]!r}; there are {', '.join(known)}.")
    return [{**record, CHANGE: name} for name in names for record in records]
