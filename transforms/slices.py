"""The slices that the networks read: those with lung, the way a radiologist sees them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from numpy.typing import NDArray

from covid_ct_mask_net.declining import (
    BLANK_SLICES,
    INTERPOLATED_SLICES,
    SLICE_CROP,
    SLICE_INDICES,
    SLICE_SAMPLING,
    SLICES,
)
from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.geometry import CanonicalGrid, voxel_spacing
from covid_ct_mask_net.lung_slices import LungSlices
from covid_ct_mask_net.slice_crop import Crop, SliceCrop, lung_box
from covid_ct_mask_net.slice_sampling import SliceMode, SlicePlan
from covid_ct_mask_net.transforms.orientation import SOURCE_AFFINE


class ExtractLungSlicesd(Transform):
    """Cut the axial slices that contain lung out of a canonical volume.

    Adds ``slices`` (`LungSlices`), like a tensor float32 (N, 1, H, W), in radiological display orientation
    (rows run to posterior, columns to the patient's left), and ``slice_indices``, int64 (N,), where they lie
    along the third axis, inferior to superior. Values stay HU. ``slice_crop`` (`SliceCrop`) says which part
    of the slices they are: all, or one box around the lungs of the volume. ``slice_sampling``
    (`SliceSampling`) says which lung slices these are and in which order they are read. Slices of the source
    that are named under ``interpolated_slices`` are not among them, nor are those under ``blank_slices`` (by
    canonical index): no image shows what they show.

    Parameters
    ----------
    image_key, mask_key : str
        Canonical HU volume and lung mask.
    least_area_mm2 : float
        Slices with less lung are left out.
    crop : str
        ``none``, or ``lungs`` for one box around the lungs, its sides multiples of 32 pixels. Only detectors
        that were trained on crops too keep their accuracy on them.
    margin_mm : float
        What the box leaves around the lungs: the pleura belongs to what is read.
    sampling : str
        Which lung slices are read: ``all``, ``adaptive``, ``adaptive=MM`` or ``every=MM``; see `SlicePlan`.
    coarse_mm : float
        Adaptive reading covers the lungs at least this densely.

    Raises
    ------
    NotAssessableError
        ``NOT_CHEST`` if no slice has enough lung, ``SLICE_GAP`` if all that have are interpolated.
    """

    def __init__(
        self,
        image_key: str = "image",
        mask_key: str = "lung_mask",
        least_area_mm2: float = 500.0,
        crop: str = Crop.NONE,
        margin_mm: float = 10.0,
        sampling: str = SliceMode.ALL,
        coarse_mm: float = 10.0,
    ) -> None:
        if crop not in list(Crop):
            raise UsageError("SETTING", f"crop is {crop!r}, but must be {' or '.join(Crop)}.")
        self.image_key = image_key
        self.mask_key = mask_key
        self.least_area_mm2 = least_area_mm2
        self.crop = Crop(crop)
        self.margin_mm = margin_mm
        self.plan = SlicePlan.parse(sampling, coarse_mm)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with ``slices``, ``slice_indices``, ``slice_crop`` and ``slice_sampling``."""
        volume = data[self.image_key]
        lungs = torch.as_tensor(data[self.mask_key])[0].numpy()
        spacing = voxel_spacing(np.asarray(volume.affine, dtype=np.float64))
        counts = np.array([np.count_nonzero(plane) for plane in lungs.transpose(2, 1, 0)])
        indices = np.flatnonzero(counts * spacing[0] * spacing[1] >= self.least_area_mm2)
        if not len(indices):
            raise NotAssessableError(
                "NOT_CHEST", f"No slice has {self.least_area_mm2:.0f} mm2 of lung; a chest CT is expected."
            )
        lung_slices = indices.tolist()
        sampling = self.plan.sample(lung_slices, spacing[2], _interpolated(data, volume, lung_slices))
        if not sampling.order:
            raise NotAssessableError("SLICE_GAP", "The slices with lung are missing from the images.")
        order = sorted(sampling.order)
        box = self._box(lungs, spacing)
        image = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
        return {
            **data,
            SLICES: LungSlices(image[0], order, box),
            SLICE_INDICES: torch.tensor(order, dtype=torch.int64),
            SLICE_CROP: box,
            SLICE_SAMPLING: sampling,
        }

    def _box(self, lungs: NDArray[np.uint8], spacing: tuple[float, float, float]) -> SliceCrop:
        columns, rows = lungs.shape[:2]
        if self.crop is Crop.NONE:
            return SliceCrop(0, 0, rows, columns, rows, columns)
        margin = (round(self.margin_mm / spacing[1]), round(self.margin_mm / spacing[0]))
        return lung_box(lungs.transpose(2, 1, 0), margin)


def _interpolated(data: Mapping[Hashable, Any], volume: MetaTensor, lung_slices: list[int]) -> list[int]:
    """Return the lung slices that were interpolated, in the source or since, by their canonical indices."""
    places, blank = set(data.get(INTERPOLATED_SLICES, ())), set(data.get(BLANK_SLICES, ()))
    if not places:
        return [index for index in lung_slices if index in blank]
    grid = CanonicalGrid(
        np.asarray(volume.affine, dtype=np.float64), np.asarray(volume.meta[SOURCE_AFFINE], dtype=np.float64)
    )
    return [index for index in lung_slices if index in blank or grid.source_slice(index) in places]
