"""Hounsfield units: the gate in front of the networks and the window they see through."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, ScaleIntensityRange

from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.lung_slices import LungSlices
from covid_ct_mask_net.reduction import HIGHEST_HU, LOWEST_HU, PADDING_HU

_AIR_HU, _TISSUE_HU = -500.0, -200.0
_LEAST_SHARE = 0.001


class CheckHounsfieldd(MapTransform):
    """Let through what can be a chest CT in HU, clipped to [-1024, 3071].

    Padding below the scale (-2000, -3024) becomes air. Padding above it, as from unsigned values (63536),
    does too: nothing in a body is that dense.

    Parameters
    ----------
    keys : KeysCollection
        Entries to check: tensors of HU.
    padding_hu : float
        Values from here on are padding.
    allow_missing_keys : bool
        Whether an entry may be absent.

    Raises
    ------
    NotAssessableError
        ``NON_FINITE``, ``NO_CONTENT`` (all values equal) or ``NOT_HOUNSFIELD_RANGE`` (no air or no tissue, as
        in a volume that was windowed to 0..255).
    """

    def __init__(
        self, keys: KeysCollection, padding_hu: float = PADDING_HU, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.padding_hu = padding_hu

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with clipped volumes: int16 stays, everything else becomes float32."""
        checked = dict(data)
        for key in self.key_iterator(checked):
            checked[key] = self._check(checked[key])
        return checked

    def _check(self, volume: torch.Tensor) -> torch.Tensor:
        # Whole numbers take half the memory; everything after this reads both.
        hu = volume if volume.dtype == torch.int16 else volume.to(torch.float32)
        # By numpy: torch takes fifty times as long where the last index is not the fastest in memory.
        values = hu.as_tensor().numpy() if isinstance(hu, MetaTensor) else hu.numpy()
        lowest, highest = float(values.min()), float(values.max())
        # The extremes of a tensor with NaN are NaN, those with infinity are infinite.
        if not (torch.isfinite(torch.tensor([lowest, highest])).all()):
            raise NotAssessableError("NON_FINITE", "The volume holds values that are not numbers.")
        if lowest == highest:
            raise NotAssessableError(
                "NO_CONTENT", f"All voxels have the value {lowest:g}; a CT of a chest is expected."
            )
        if highest >= self.padding_hu:
            hu = hu.masked_fill(hu >= self.padding_hu, LOWEST_HU)
        if lowest < LOWEST_HU or highest > HIGHEST_HU:
            hu = hu.clamp(LOWEST_HU, HIGHEST_HU)
        # Every fourth voxel in the plane is enough to tell.
        sample = hu[:, ::4, ::4]
        air = float((sample < _AIR_HU).float().mean())
        tissue = float((sample > _TISSUE_HU).float().mean())
        if min(air, tissue) < _LEAST_SHARE:
            raise NotAssessableError(
                "NOT_HOUNSFIELD_RANGE",
                f"The values run from {lowest:g} to {highest:g}; a chest CT in Hounsfield units holds air "
                f"(below {_AIR_HU:g}) and tissue (above {_TISSUE_HU:g}). Was the volume windowed or "
                "rescaled?",
            )
        return hu


class WindowHounsfieldd(MapTransform):
    """Scale HU to [0, 1] through a window, clipped at both ends (MONAI's ``ScaleIntensityRange``).

    Parameters
    ----------
    keys : KeysCollection
        Entries to window: tensors of HU, or `LungSlices`.
    level, width : float
        Centre and width of the window in HU.
    allow_missing_keys : bool
        Whether an entry may be absent.
    """

    def __init__(
        self, keys: KeysCollection, level: float, width: float, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scale = ScaleIntensityRange(
            a_min=level - width / 2.0, a_max=level + width / 2.0, b_min=0.0, b_max=1.0, clip=True
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with windowed images."""
        windowed = dict(data)
        for key in self.key_iterator(windowed):
            windowed[key] = self._window(windowed[key])
        return windowed

    def _window(self, images: torch.Tensor | LungSlices) -> torch.Tensor | LungSlices:
        if isinstance(images, LungSlices):
            # A method and no lambda: what a DataLoader's worker prepares is pickled.
            return images.scaled(self._scaled)
        return self._scaled(images)

    def _scaled(self, image: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.scale(image))
