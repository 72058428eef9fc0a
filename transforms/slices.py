"""The slices that the networks read: those with lung, the way a radiologist sees them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform

from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.geometry import voxel_spacing


class ExtractLungSlicesd(Transform):
    """Cut the axial slices that contain lung out of a canonical volume.

    Adds ``slices``, float32 (N, 1, H, W), in radiological display orientation (rows run to posterior,
    columns to the patient's left), and ``slice_indices``, int64 (N,), where they lie along the third axis,
    inferior to superior. Values stay HU.

    Parameters
    ----------
    image_key, mask_key : str
        Canonical HU volume and lung mask.
    least_area_mm2 : float
        Slices with less lung are left out.

    Raises
    ------
    NotAssessableError
        ``NOT_CHEST`` if no slice has enough lung.
    """

    def __init__(
        self, image_key: str = "image", mask_key: str = "lung_mask", least_area_mm2: float = 500.0
    ) -> None:
        self.image_key = image_key
        self.mask_key = mask_key
        self.least_area_mm2 = least_area_mm2

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with ``slices`` and ``slice_indices``."""
        volume = data[self.image_key]
        lungs = torch.as_tensor(data[self.mask_key])[0]
        spacing = voxel_spacing(np.asarray(volume.affine, dtype=np.float64))
        areas = torch.count_nonzero(lungs.permute(2, 1, 0).flatten(1), dim=1) * spacing[0] * spacing[1]
        indices = torch.nonzero(areas >= self.least_area_mm2)[:, 0]
        if not len(indices):
            raise NotAssessableError(
                "NOT_CHEST", f"No slice has {self.least_area_mm2:.0f} mm2 of lung; a chest CT is expected."
            )
        image = torch.as_tensor(volume)[0].permute(2, 1, 0)
        slices = image[indices][:, None].contiguous()
        return {**data, "slices": slices.as_subclass(torch.Tensor), "slice_indices": indices}
