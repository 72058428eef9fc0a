"""Read the image and mask of a data dictionary, checking what MONAI's readers let pass.

`monai.transforms.LoadImaged` with `PILReader` exchanges the axes, keeps no label map and names no file when a
mask is wrong; this transform returns ``(1, rows, columns)`` in display orientation and refuses by name.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from PIL import Image, UnidentifiedImageError

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.records import (
    IMAGE,
    MASK,
    MASK_VALUES,
    TRANSPOSED,
    VOLUME_SLICE,
)

# HU window of the bundle's inference.yaml.
WINDOW_LEVEL = -600.0
WINDOW_WIDTH = 1500.0

_WHITE = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
# Pillow's conversion to 8 bits cuts these off at 255.
_DEEP = ("I", "F")
_NIFTI = (".nii", ".nii.gz")


class ReadSliced(MapTransform):
    """Read ``image`` as float32 (1, H, W) in [0, 1] and ``mask`` as uint8 lesion labels of that shape.

    Parameters
    ----------
    window_level, window_width : float
        HU window for volumes (NIfTI); 8- and 16-bit images carry their window already. The default is the
        lung window of the bundle's inference configuration.

    Raises
    ------
    UsageError
        If the width is not above 0, or either is no number.
    """

    def __init__(self, window_level: float = WINDOW_LEVEL, window_width: float = WINDOW_WIDTH) -> None:
        super().__init__(keys=(IMAGE, MASK), allow_missing_keys=True)
        if not (math.isfinite(window_level) and 0 < window_width < math.inf):
            raise UsageError(
                "WINDOW",
                f"The window has level {window_level:g} and width {window_width:g} HU; numbers with a width "
                "above 0 were expected.",
            )
        self.low = float(window_level - window_width / 2)
        self.width = float(window_width)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with tensors for files; the keys that told how to read are gone.

        Raises
        ------
        RefusedInputError
            If a file is missing or unreadable, shapes differ, or a mask holds a value outside its map.
        """
        result = dict(data)
        transposed = result.pop(TRANSPOSED, False)
        values = result.pop(MASK_VALUES, None)
        index = result.pop(VOLUME_SLICE, None)
        image = self._image(Path(result[IMAGE]), index)
        if MASK in result:
            mask = read_mask(Path(result[MASK]), values, index)
            if mask.shape != image.shape:
                raise RefusedInputError(
                    "MASK_SIZE",
                    f"The mask {result[MASK]} has {_size(mask)} pixels (rows x columns), but its image has "
                    f"{_size(image)}.",
                )
            result[MASK] = _channel_first(mask, transposed)
        result[IMAGE] = _channel_first(image, transposed)
        return result

    def _image(self, path: Path, index: int | None) -> np.ndarray:
        if index is not None:
            hounsfield = read_volume_slice(path, index).astype(np.float32)
            return np.clip((hounsfield - self.low) / self.width, 0, 1)
        return read_grey_image(path)


def read_grey_image(path: Path) -> np.ndarray:
    """Return an 8- or 16-bit image as float32 (rows, columns) in [0, 1]; colour is averaged to grey."""
    pixels = read_grey_pixels(path)
    return pixels.astype(np.float32) / np.float32(_WHITE[pixels.dtype])


def read_grey_pixels(path: Path) -> np.ndarray:
    """Return an image as uint8 or uint16 (rows, columns), as it is on disk; colour is averaged to grey.

    Raises
    ------
    RefusedInputError
        If the file is missing or unreadable, or has more than 16 bits a pixel.
    """
    pixels = _pixels(path, grey=True)
    if pixels.dtype.kind == "u":
        # Big-endian TIFF.
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype not in _WHITE or pixels.ndim != 2:
        raise RefusedInputError(
            "IMAGE_FORMAT",
            f"The image {path} has {pixels.dtype} values in {pixels.ndim} dimensions; 8- or 16-bit grey was "
            "expected.",
        )
    return pixels


def read_mask(path: Path, values: Mapping[int, int], index: int | None = None) -> np.ndarray:
    """Return the lesion labels of a mask file as uint8 (rows, columns).

    Parameters
    ----------
    path : pathlib.Path
        Image (palette images by index, never by colour) or NIfTI volume.
    values : mapping of int to int
        Value on disk to lesion label.
    index : int, optional
        Slice of a volume.

    Raises
    ------
    RefusedInputError
        If a value is not in the map; JPEG masks, whose values are smeared, end here too.
    """
    pixels = _pixels(path, grey=False) if index is None else read_volume_slice(path, index)
    if pixels.ndim != 2:
        raise RefusedInputError(
            "MASK_FORMAT", f"The mask {path} has {pixels.ndim} dimensions; one label a pixel was expected."
        )
    labels = np.zeros(pixels.shape, dtype=np.uint8)
    known = np.zeros(pixels.shape, dtype=bool)
    for value, label in values.items():
        same = pixels == value
        labels[same] = label
        known |= same
    if not known.all():
        strange = ", ".join(f"{value:g}" for value in np.unique(pixels[~known])[:5])
        raise RefusedInputError(
            "MASK_VALUE",
            f"The mask {path} holds the value {strange}, but only {', '.join(map(str, values))} are known.",
        )
    return labels


def read_volume_slice(path: Path, index: int) -> np.ndarray:
    """Return one axial slice of a NIfTI volume as (rows, columns): anterior at row 0, right at column 0.

    Slices count from the feet. The volume is brought into RAS+ first, whatever its axes are on disk.
    """
    volume = _canonical_volume(str(path))
    if not 0 <= index < volume.shape[2]:
        raise RefusedInputError(
            "VOLUME_SLICE", f"The volume {path} has {volume.shape[2]} slices; slice {index} was asked for."
        )
    # In RAS+ the first axis runs to the patient's right, the second forward; the display runs against both.
    return np.ascontiguousarray(volume[::-1, ::-1, index].T)


def volume_shape(path: Path) -> tuple[int, int, int]:
    """Return the shape of a NIfTI volume in RAS+ order, from its header."""
    columns, rows, slices = _open_volume(path).shape
    return columns, rows, slices


# Slices of one volume are read one after another, its mask beside it; unpacking a volume once a slice would
# take minutes.
@lru_cache(maxsize=2)
def _canonical_volume(path: str) -> np.ndarray:
    """Return the voxels of a volume as float32 in closest canonical (RAS+) orientation."""
    volume = _open_volume(Path(path))
    try:
        return np.asarray(volume.get_fdata(dtype=np.float32, caching="unchanged"))
    except (OSError, EOFError, ValueError) as error:
        raise RefusedInputError("VOLUME_UNREADABLE", f"The volume {path} cannot be read: {error}.") from error


def _open_volume(path: Path) -> Any:
    import nibabel

    if not path.name.lower().endswith(_NIFTI) or not path.is_file():
        raise RefusedInputError("FILE_MISSING", f"There is no NIfTI file {path}.")
    try:
        volume = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise RefusedInputError("VOLUME_UNREADABLE", f"The volume {path} cannot be read: {error}.") from error
    if volume.ndim != 3:
        raise RefusedInputError(
            "VOLUME_FORMAT", f"The volume {path} has {volume.ndim} dimensions; three were expected."
        )
    return volume


def _pixels(path: Path, *, grey: bool) -> np.ndarray:
    try:
        with Image.open(path) as image:
            # Palette indices are labels in masks, but colours in images.
            if grey and not (image.mode in ("L", *_DEEP) or image.mode.startswith("I;16")):
                return np.asarray(image.convert("L"))
            return np.asarray(image)
    except FileNotFoundError as error:
        raise RefusedInputError("FILE_MISSING", f"The file {path} is missing.") from error
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise RefusedInputError("IMAGE_UNREADABLE", f"The image {path} cannot be read: {error}.") from error


def _channel_first(pixels: np.ndarray, transposed: bool) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray((pixels.T if transposed else pixels)[None]))


def _size(pixels: np.ndarray) -> str:
    return " x ".join(str(side) for side in pixels.shape)
