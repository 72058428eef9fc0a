"""Volumes in canonical patient orientation, whatever way the source was stored."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.geometry import canonical_axes, moved_affine
from covid_ct_mask_net.reduction import FULL_GRID, FullGrid, enlarged

SOURCE_AFFINE = "source_affine"


class CanonicalOrientationd(MapTransform):
    """Permute and flip volumes to axes L, P, S by their affine.

    The first index then grows to the patient's left, the second to posterior, the third to superior. Voxels
    are moved, never interpolated; an oblique volume goes to the nearest axes and keeps its obliqueness in
    the affine. The source's affine stays in the meta data under ``source_affine``.

    Affines are RAS+ (nibabel's convention, as ``LoadImaged`` gives them). MONAI's own ``Orientation`` is
    not used: since 1.5.1 its letters depend on a ``space`` entry of the meta data, which flips volumes of
    readers that do not set it.

    Parameters
    ----------
    keys : KeysCollection
        Entries to transform: MetaTensor (C, X, Y, Z).
    allow_missing_keys : bool
        Whether an entry may be absent.

    Raises
    ------
    RefusedInputError
        ``NIFTI_DIMENSIONS`` if a volume is not three-dimensional with one channel, ``NIFTI_AFFINE`` if its
        affine has no inverse or a spacing of zero.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with canonical volumes."""
        moved = dict(data)
        for key in self.key_iterator(moved):
            moved[key] = to_canonical(moved[key])
        return moved


def to_canonical(volume: MetaTensor) -> MetaTensor:
    """Return a volume (1, X, Y, Z) with axes L, P, S; see `CanonicalOrientationd`."""
    _check(volume)
    source_affine = np.asarray(volume.affine, dtype=np.float64)
    order, signs = canonical_axes(source_affine)
    array = volume.as_tensor().permute(0, *(1 + axis for axis in order))
    flipped = [axis for axis in range(3) if signs[axis] < 0]
    array = torch.flip(array, [1 + axis for axis in flipped]) if flipped else array
    affine = moved_affine(source_affine, order, signs, array.shape[1:])
    meta = {k: v for k, v in volume.meta.items() if k != MetaKeys.AFFINE}
    meta |= {SOURCE_AFFINE: source_affine, MetaKeys.SPACE: SpaceKeys.RAS}
    if FULL_GRID in meta:
        # The source of a volume that was reduced is the one in the files.
        meta[SOURCE_AFFINE] = meta[FULL_GRID].affine
    return MetaTensor(array, affine=torch.as_tensor(affine), meta=meta)


def to_source(volume: MetaTensor) -> MetaTensor:
    """Return a canonical volume on the grid of its source: the inverse of `to_canonical`.

    A label map of a volume that was reduced is enlarged to the matrix of the source.
    """
    source_affine = np.asarray(volume.meta[SOURCE_AFFINE], dtype=np.float64)
    order, signs = canonical_axes(source_affine)
    flipped = [1 + axis for axis in range(3) if signs[axis] < 0]
    array = torch.flip(volume.as_tensor(), flipped) if flipped else volume.as_tensor()
    back = np.argsort(order)
    array = array.permute(0, *(1 + int(axis) for axis in back))
    full: FullGrid | None = volume.meta.get(FULL_GRID)
    if full is not None:
        array = torch.from_numpy(enlarged(array[0].numpy(), full.factors, full.shape))[None]
    kept = (SOURCE_AFFINE, FULL_GRID, MetaKeys.AFFINE)
    meta = {key: value for key, value in volume.meta.items() if key not in kept}
    return MetaTensor(array, affine=torch.as_tensor(source_affine), meta=meta)


def source_view(canonical: NDArray[Any], source_affine: NDArray[np.float64]) -> NDArray[Any]:
    """Return a canonical array [X, Y, Z] in the order of the source's axes, without moving a voxel in memory.

    Of a volume that was reduced this is the reduced grid: see `reduction.enlarged`.
    """
    order, signs = canonical_axes(np.asarray(source_affine, dtype=np.float64))
    turned = np.flip(canonical, tuple(axis for axis in range(3) if signs[axis] < 0))
    return turned.transpose([int(axis) for axis in np.argsort(order)])


def _check(volume: MetaTensor) -> None:
    if volume.ndim != 4 or volume.shape[0] != 1:
        found = " x ".join(str(n) for n in volume.shape[1:])
        raise RefusedInputError(
            "NIFTI_DIMENSIONS",
            f"The volume has {volume.shape[0]} channels of {found}; one three-dimensional volume is "
            "expected.",
        )
    affine = np.asarray(volume.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise RefusedInputError(
            "NIFTI_AFFINE",
            "The affine of the volume has no inverse (a spacing of zero?); correct its header.",
        )
