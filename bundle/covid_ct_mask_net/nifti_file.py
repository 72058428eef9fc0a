"""NIfTI files as volumes in HU: what `nifti_stream` lets through, reduced where memory is too small."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys, SpaceKeys
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from covid_ct_mask_net.axial_planes import AxialRules, check_planes
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.geometry import moved_affine, voxel_spacing
from covid_ct_mask_net.nifti_stream import (
    NIFTI_SUFFIXES,
    NiftiImage,
    NiftiLimits,
    NiftiStream,
    check_nifti,
    open_nifti,
)
from covid_ct_mask_net.reduction import (
    FULL_GRID,
    FullGrid,
    reduced,
    reduced_affine,
    reduced_side,
    reduction_warning,
    upright_signs,
    whole_numbers,
)
from covid_ct_mask_net.results import Reason

__all__ = ["NIFTI_SUFFIXES", "LoadNiftid", "NiftiLimits", "check_nifti", "load_nifti"]

_WARNINGS = "warnings"


class LoadNiftid(MapTransform):
    """Check NIfTI files and load them: MetaTensor (1, X, Y, Z), HU, affine to RAS mm.

    int16 where values are whole numbers of two bytes, else float32. Volumes that are too large for memory are
    reduced in the plane, with a warning under ``warnings``.

    Parameters
    ----------
    keys : KeysCollection
        Entries with paths.
    limits : NiftiLimits, optional
        Bounds.
    opened : callable, optional
        Opens a file: `open_nifti`, or what does the same in another process.
    axial : AxialRules, optional
        What counts as axial; told from the header, before voxels are read.

    Raises
    ------
    RefusedInputError
        See `open_nifti`.
    NotAssessableError
        ``NON_FINITE`` where voxels that are to be averaged are no numbers; see `check_planes` too.
    """

    def __init__(
        self,
        keys: KeysCollection,
        limits: NiftiLimits | None = None,
        opened: Callable[[Path, NiftiLimits], NiftiStream] = open_nifti,
        axial: AxialRules | None = None,
    ) -> None:
        super().__init__(keys)
        self.limits = limits or NiftiLimits()
        self.opened = opened
        self.axial = axial or AxialRules()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with volumes in place of paths."""
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            with self.opened(Path(loaded[key]), self.limits) as (image, pieces):
                tilted = check_planes(image.affine, self.axial)
                loaded[key], warnings = load_nifti(image, pieces, self.limits)
            loaded[_WARNINGS] = (*loaded.get(_WARNINGS, ()), *tilted, *warnings)
        return loaded


def load_nifti(
    image: NiftiImage, pieces: Iterator[bytes], limits: NiftiLimits
) -> tuple[MetaTensor, tuple[Reason, ...]]:
    """Return the volume of a file that is being read, and warnings about it.

    Parameters
    ----------
    image : NiftiImage
        Its header.
    pieces : iterator of bytes
        Its voxels; read to the end.
    limits : NiftiLimits
        Say how far it is reduced.
    """
    factors = limits.factors(image)
    kept = [reduced_side(size, factor) for size, factor in zip(image.shape, factors, strict=True)]
    whole = max(factors) > 1 or _is_whole(image)
    # The first index varies fastest, as in the file.
    volume = np.empty(kept, dtype=np.int16 if whole else np.float32, order="F")
    signs = upright_signs(image.affine) if max(factors) > 1 else (1, 1, 1)
    places = volume[:: signs[0], :: signs[1], :: signs[2]]
    for index, slab in enumerate(_slabs(image, pieces, factors[2])):
        values = apply_read_scaling(slab, image.slope, image.intercept)
        if max(factors) > 1:
            values = _reduced(values, factors)
        places[:, :, index : index + 1] = whole_numbers(values) if whole else values
    affine = moved_affine(reduced_affine(image.affine, factors), (0, 1, 2), signs, volume.shape)
    meta: dict[str, Any] = {
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(volume.shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
    }
    warnings = []
    if max(factors) > 1:
        meta[FULL_GRID] = FullGrid(image.affine, image.shape, factors)
        plane = [axis for axis in range(3) if factors[axis] > 1]
        (along,) = (axis for axis in range(3) if axis not in plane)
        spacing = voxel_spacing(affine)
        shape = [image.shape[axis] for axis in (*plane, along)]
        warnings.append(reduction_warning(shape, max(factors), [spacing[axis] for axis in plane]))
    tensor = MetaTensor(torch.from_numpy(volume)[None], affine=torch.from_numpy(affine.copy()), meta=meta)
    return tensor, tuple(warnings)


def _slabs(image: NiftiImage, pieces: Iterator[bytes], thickness: int) -> Iterator[NDArray]:
    """Yield the stored values of so many planes of the last axis at a time, [X, Y, planes]."""
    columns, rows, planes = image.shape
    dtype = np.dtype(image.dtype)
    plane_bytes = columns * rows * dtype.itemsize
    left, slab = planes, bytearray()
    for piece in pieces:
        slab += piece
        while left and len(slab) >= (length := min(thickness, left) * plane_bytes):
            count = min(thickness, left)
            values = np.frombuffer(bytes(slab[:length]), dtype)
            yield values.reshape((columns, rows, count), order="F")
            del slab[:length]
            left -= count


def _is_whole(image: NiftiImage) -> bool:
    """Tell whether all values are whole numbers that two bytes nearly hold."""
    dtype = np.dtype(image.dtype)
    scaling = (image.slope, image.intercept)
    return dtype.kind in "iu" and dtype.itemsize <= 2 and all(v is None or v.is_integer() for v in scaling)


def _reduced(values: NDArray, factors: tuple[int, int, int]) -> NDArray[np.int16]:
    if not np.isfinite(values).all():
        raise NotAssessableError("NON_FINITE", "The volume holds values that are not numbers.")
    return reduced(values, factors)
