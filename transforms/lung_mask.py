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

from covid_ct_mask_net.declining import BLANK_SLICES
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.geometry import voxel_spacing, voxel_volume_ml
from covid_ct_mask_net.results import Reason
from covid_ct_mask_net.transforms.blank_slices import shown_range
from covid_ct_mask_net.transforms.lungs import segment_lungs
from covid_ct_mask_net.transforms.truncation import side_cut

WARNINGS = "warnings"
# A slice whose box around the lungs is tissue to this share shows the body.
_TISSUE_HU, _BODY_SHARE = -400.0, 0.05


class LungMaskd(MapTransform):
    """Add the lung mask: uint8 MetaTensor (1, X, Y, Z), 1 right lung, 2 left lung.

    Slices under ``blank_slices`` show nothing: at the ends of the volume they count as not there.

    Parameters
    ----------
    keys : KeysCollection
        Entry with the canonical HU volume.
    mask_key : str
        Entry to write.
    least_slices : int
        Volumes with fewer slices are not assessed.
    least_lung_ml, most_lung_ml : float
        With less lung, the volume is no chest CT; with more, its lengths are not in millimetres.
    truncation_warning, truncation_limit : float
        Area of the lungs on the first or last slice that shows the body, as a share of their largest area on
        any slice: from the first on a warning, from the second on the volume is not assessed.
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
        most_lung_ml: float = 15_000.0,
        truncation_warning: float = 0.25,
        truncation_limit: float = 0.75,
        side_warning: float = 0.02,
        side_limit: float = 0.15,
    ) -> None:
        super().__init__(keys)
        self.mask_key = mask_key
        self.least_slices = least_slices
        self.least_lung_ml = least_lung_ml
        self.most_lung_ml = most_lung_ml
        self.truncation_warning = truncation_warning
        self.truncation_limit = truncation_limit
        self.side_warning = side_warning
        self.side_limit = side_limit

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the mask, and with warnings if the lungs are cut off."""
        masked = dict(data)
        for key in self.key_iterator(masked):
            volume = masked[key]
            blank = masked.get(BLANK_SLICES, ())
            self._check_slices(volume.shape[3] - len(blank))
            affine = np.asarray(volume.affine, dtype=np.float64)
            shown = shown_range(blank, volume.shape[3])
            hu = volume[0].numpy()
            # Blank slices at an end would hide that the lungs are cut off there.
            lungs = segment_lungs(hu[:, :, shown], affine)
            body = body_range(hu[:, :, shown], lungs)
            warnings = (
                *self.check(lungs, affine, body),
                *self.check_sides(hu[:, :, shown], lungs, affine),
            )
            if lungs.shape != hu.shape:
                lungs = np.pad(lungs, ((0, 0), (0, 0), (shown.start, hu.shape[2] - shown.stop)))
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

    def check(
        self, lungs: NDArray[np.uint8], affine: NDArray[np.float64], body: slice | None = None
    ) -> tuple[Reason, ...]:
        """Return warnings about a lung mask, or raise if the volume cannot be assessed.

        Parameters
        ----------
        lungs : NDArray
            Canonical mask [X, Y, Z].
        affine : NDArray
            Voxel to RAS mm, (4, 4).
        body : slice, optional
            Slices that show the body, see `body_range`; all if not given.
        """
        volume_ml = float(np.count_nonzero(lungs)) * voxel_volume_ml(affine)
        if volume_ml < self.least_lung_ml:
            raise NotAssessableError(
                "NOT_CHEST",
                f"{volume_ml:.0f} ml of lung are in the field of view; a chest CT with at least "
                f"{self.least_lung_ml:.0f} ml is expected.",
            )
        if volume_ml > self.most_lung_ml:
            raise NotAssessableError(
                "NOT_CHEST",
                f"The lungs would have {volume_ml / 1000.0:.3g} l; at most {self.most_lung_ml / 1000.0:g} l "
                "are expected in a chest. The spacing is wrong, or not in millimetres; correct the header.",
            )
        # Beyond the body there is no lung to be cut off: air there would hide that it is.
        shown = lungs if body is None else lungs[:, :, body]
        areas = np.array([np.count_nonzero(plane) for plane in shown.transpose(2, 1, 0)])
        shares = {"lowest": areas[0] / areas.max(), "highest": areas[-1] / areas.max()}
        warnings = []
        for end, share in shares.items():
            if share >= self.truncation_warning:
                sentence = (
                    f"The lungs are cut off at the {end} slice of the body, where they still have "
                    f"{100 * share:.0f} % of their largest area."
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


def body_range(hu: NDArray[np.float32], lungs: NDArray[np.uint8]) -> slice:
    """Return the slices from the first that shows the body to the last; all if there is no lung.

    In the box around the lungs there is tissue on each slice of a body: heart and vessels, or the neck and
    the liver beyond the lungs. A table lies behind it, and the noise of air stays far below tissue.

    Parameters
    ----------
    hu : NDArray
        Canonical HU [X, Y, Z].
    lungs : NDArray
        Lung mask of the same shape.
    """
    # Slices first, as they lie in memory: the other way is many times slower.
    shadow = np.asarray(lungs.transpose(2, 1, 0).any(axis=0))
    if not shadow.any():
        return slice(0, hu.shape[2])
    rows, columns = np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))
    box = np.s_[columns[0] : columns[-1] + 1 : 2, rows[0] : rows[-1] + 1 : 2]
    tissue = np.array([float((plane > _TISSUE_HU).mean()) for plane in hu[box].transpose(2, 1, 0)])
    areas = np.array([np.count_nonzero(plane) for plane in lungs[box].transpose(2, 1, 0)])
    # Large lungs are in a body too, whatever is between them.
    bodies = np.flatnonzero((tissue >= _BODY_SHARE) | (4 * areas >= areas.max()))
    return slice(int(bodies[0]), int(bodies[-1]) + 1)


def _thick(spacing_mm: float) -> Reason | None:
    if spacing_mm <= 5.5:
        return None
    return Reason(
        "THICK_SLICES",
        f"The slices are {spacing_mm:.1f} mm apart; small lesions may lie between them and volumes are "
        "coarse.",
    )
