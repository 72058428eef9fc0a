"""The lung mask of a volume, and whether its lungs can be assessed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.geometry import voxel_spacing, voxel_volume_ml
from covid_ct_mask_net.results import Reason
from covid_ct_mask_net.transforms.lungs import segment_lungs
from covid_ct_mask_net.transforms.truncation import side_cut

WARNINGS = "warnings"


class LungMaskd(MapTransform):
    """Add the lung mask: uint8 MetaTensor (1, X, Y, Z), 1 right lung, 2 left lung.

    Parameters
    ----------
    keys : KeysCollection
        Entry with the canonical HU volume.
    mask_key : str
        Entry to write.
    least_slices : int
        Volumes with fewer slices are not assessed.
    least_lung_ml : float
        With less lung, the volume is no chest CT.
    truncation_warning, truncation_limit : float
        Area of the lungs on the first or last slice of the scan, as a share of their largest area on any
        slice: from the first on a warning, from the second on the volume is not assessed.
    side_warning, side_limit : float
        The same for the share of the outline of the lungs that lies on the edge of the field of view. A field
        of view that shows one side of the chest only is beyond the limit.

    Raises
    ------
    NotAssessableError
        ``TOO_FEW_SLICES``, ``NOT_CHEST`` or ``LUNG_TRUNCATED``. Warnings go under ``warnings``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "lung_mask",
        least_slices: int = 16,
        least_lung_ml: float = 500.0,
        truncation_warning: float = 0.25,
        truncation_limit: float = 0.75,
        side_warning: float = 0.02,
        side_limit: float = 0.15,
    ) -> None:
        super().__init__(keys)
        self.mask_key = mask_key
        self.least_slices = least_slices
        self.least_lung_ml = least_lung_ml
        self.truncation_warning = truncation_warning
        self.truncation_limit = truncation_limit
        self.side_warning = side_warning
        self.side_limit = side_limit

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the mask, and with warnings if the lungs are cut off."""
        masked = dict(data)
        for key in self.key_iterator(masked):
            volume = masked[key]
            self._check_slices(volume.shape[3])
            affine = np.asarray(volume.affine, dtype=np.float64)
            hu = volume[0].numpy()
            lungs = segment_lungs(hu, affine)
            warnings = (*self.check(lungs, affine), *self.check_sides(hu, lungs, affine))
            masked[WARNINGS] = (*masked.get(WARNINGS, ()), *warnings)
            masked[self.mask_key] = MetaTensor(
                torch.from_numpy(lungs)[None],
                affine=volume.affine,
                meta={k: v for k, v in volume.meta.items() if k != "affine"},
            )
        return masked

    def _check_slices(self, slices: int) -> None:
        if slices < self.least_slices:
            raise NotAssessableError(
                "TOO_FEW_SLICES",
                f"The volume has {slices} slices; at least {self.least_slices} are needed for a volume.",
            )

    def check(self, lungs: NDArray[np.uint8], affine: NDArray[np.float64]) -> tuple[Reason, ...]:
        """Return warnings about a lung mask, or raise if the volume cannot be assessed."""
        volume_ml = float(np.count_nonzero(lungs)) * voxel_volume_ml(affine)
        if volume_ml < self.least_lung_ml:
            raise NotAssessableError(
                "NOT_CHEST",
                f"{volume_ml:.0f} ml of lung are in the field of view; a chest CT with at least "
                f"{self.least_lung_ml:.0f} ml is expected.",
            )
        areas = np.array([np.count_nonzero(plane) for plane in lungs.transpose(2, 1, 0)])
        shares = {"lowest": areas[0] / areas.max(), "highest": areas[-1] / areas.max()}
        warnings = []
        for end, share in shares.items():
            if share >= self.truncation_warning:
                sentence = (
                    f"The lungs are cut off at the {end} slice, where they still have {100 * share:.0f} % of "
                    "their largest area."
                )
                if share >= self.truncation_limit:
                    raise NotAssessableError("LUNG_TRUNCATED", sentence)
                warnings.append(Reason("LUNG_TRUNCATED", sentence))
        if spacing_reason := _thick(voxel_spacing(affine)[2]):
            warnings.append(spacing_reason)
        return tuple(warnings)

    def check_sides(
        self, hu: NDArray[np.float32], lungs: NDArray[np.uint8], affine: NDArray[np.float64]
    ) -> tuple[Reason, ...]:
        """Return a warning about lungs that the field of view cuts, or raise if too much is missing."""
        cut = side_cut(hu, lungs, voxel_spacing(affine))
        if cut.one_side:
            raise NotAssessableError(
                "LUNG_TRUNCATED",
                "The field of view shows one side of the chest only; both lungs are expected.",
            )
        if cut.share < self.side_warning:
            return ()
        sentence = (
            f"The field of view cuts the lungs: {100 * cut.share:.0f} % of their outline lies on its edge."
        )
        if cut.share >= self.side_limit:
            raise NotAssessableError("LUNG_TRUNCATED", sentence)
        return (Reason("LUNG_TRUNCATED", sentence),)


def _thick(spacing_mm: float) -> Reason | None:
    if spacing_mm <= 5.5:
        return None
    return Reason(
        "THICK_SLICES",
        f"The slices are {spacing_mm:.1f} mm apart; small lesions may lie between them and volumes are "
        "coarse.",
    )
