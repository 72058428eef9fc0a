"""The way back from the canonical volume to the grid of the source."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from covid_ct_mask_net.transforms.orientation import to_source


class RestoreSourceGridd(MapTransform):
    """Bring canonical volumes back to the axes and affine of their source; voxels are moved, not changed.

    Parameters
    ----------
    keys : KeysCollection
        Entries: MetaTensor (C, X, Y, Z) made by `CanonicalOrientationd` or with its meta data.
    allow_missing_keys : bool
        Whether an entry may be absent, as after a volume was declined.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with restored volumes."""
        restored = dict(data)
        for key in self.key_iterator(restored):
            restored[key] = to_source(restored[key])
        return restored
