"""Is the volume like those the model knows? Spacing, noise, metal, slices unlike their neighbours."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage

from covid_ct_mask_net.declining import BLANK_SLICES
from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.geometry import voxel_spacing, voxel_volume_ml
from covid_ct_mask_net.results import Reason
from covid_ct_mask_net.transforms.blank_slices import blank_slices, fill_inside, shown_range
from covid_ct_mask_net.transforms.implausible_slices import implausible_slices
from covid_ct_mask_net.transforms.lung_mask import WARNINGS

# Muscle and blood: where noise is not confused with structure.
_TISSUE_HU = (0.0, 100.0)
_METAL_HU = 3000.0
_NOISE_SLICES = 12


class CheckQualityd(MapTransform):
    """Add warnings about a canonical HU volume, or decline it.

    Slices that show nothing (one value throughout, `blank_slices`) get a warning (``PIXEL_CONSTANT``) and
    their indices go under ``blank_slices``, so that nobody takes them for seen. Those between others are
    interpolated in a copy of the volume: the lungs around them stay in one piece.

    Parameters
    ----------
    keys : KeysCollection
        Entries with the volume, clipped to the HU scale.
    slice_spacing_mm, pixel_spacing_mm : (float, float)
        Range that the model was trained on; outside it the volume is assessed with the warning
        ``OUT_OF_TRAINING_RANGE``.
    square_warning, square_limit : float
        Longer side of a pixel of the axial slices by its shorter one: networks read pixels as squares. Beyond
        the first a warning (``OUT_OF_TRAINING_RANGE``), beyond the second the volume is not assessed.
    noise_warning_hu, noise_limit_hu : float
        Standard deviation of the noise in soft tissue: from the first on a warning (``NOISE``), from the
        second on the volume is not assessed.
    metal_ml : float
        From this volume of metal on a warning (``METAL``): its streaks look like consolidation.
    slice_jump : float
        Slices, alone or up to three in a row, that differ from those around them by more than this multiple
        of what is usual in the volume get a warning (``SLICE_IMPLAUSIBLE``; see `implausible_slices`).
    blank_share : float
        Share of the slices that may show nothing, those at the ends of the volume left aside.
    blank_gap_mm : float
        Widest interval between slices that show something.

    Raises
    ------
    NotAssessableError
        ``NOISE``, ``PIXEL_CONSTANT``, ``NON_SQUARE_PIXELS``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        slice_spacing_mm: tuple[float, float] = (0.4, 8.0),
        pixel_spacing_mm: tuple[float, float] = (0.4, 1.2),
        square_warning: float = 1.01,
        square_limit: float = 1.1,
        noise_warning_hu: float = 150.0,
        noise_limit_hu: float = 400.0,
        metal_ml: float = 2.0,
        slice_jump: float = 4.0,
        blank_share: float = 0.1,
        blank_gap_mm: float = 25.0,
    ) -> None:
        super().__init__(keys)
        for name, (low, high) in (
            ("slice_spacing_mm", slice_spacing_mm),
            ("pixel_spacing_mm", pixel_spacing_mm),
            ("square", (square_warning, square_limit)),
            ("noise", (noise_warning_hu, noise_limit_hu)),
        ):
            if not 0 < low <= high:
                raise UsageError(
                    "SETTING", f"{name} is {low} to {high}; two rising positive numbers are expected."
                )
        self.slice_spacing_mm = slice_spacing_mm
        self.pixel_spacing_mm = pixel_spacing_mm
        self.square_warning = square_warning
        self.square_limit = square_limit
        self.noise_warning_hu = noise_warning_hu
        self.noise_limit_hu = noise_limit_hu
        self.metal_ml = metal_ml
        self.slice_jump = slice_jump
        self.blank_share = blank_share
        self.blank_gap_mm = blank_gap_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with warnings."""
        checked = dict(data)
        for key in self.key_iterator(checked):
            volume = checked[key]
            hu, affine = volume[0].numpy(), np.asarray(volume.affine, dtype=np.float64)
            warnings: tuple[Reason, ...] = ()
            if blank := blank_slices(hu):
                warnings = (self.check_blank(blank, hu.shape[2], affine),)
                checked[key], checked[BLANK_SLICES] = volume.clone(), blank
                hu = checked[key][0].numpy()
                fill_inside(hu, blank)
                hu = hu[:, :, shown_range(blank, hu.shape[2])]
            checked[WARNINGS] = (*checked.get(WARNINGS, ()), *warnings, *self.check(hu, affine))
        return checked

    def check_blank(self, blank: tuple[int, ...], count: int, affine: NDArray[np.float64]) -> Reason:
        """Return the warning about slices that show nothing, or raise if they are too many.

        Parameters
        ----------
        blank : tuple of int
            Their indices, rising.
        count : int
            Slices of the volume.
        affine : NDArray
            Voxel to RAS mm, (4, 4).
        """
        if len(blank) == count:
            raise NotAssessableError(
                "NO_CONTENT", "Each slice has one value throughout; a CT of a chest is expected."
            )
        shown = shown_range(blank, count)
        places = [index for index in range(shown.start, shown.stop) if index not in set(blank)]
        inside = shown.stop - shown.start - len(places)
        gap_mm = max((high - low for low, high in pairwise(places)), default=0) * voxel_spacing(affine)[2]
        found = f"{len(blank)} of {count} slices show nothing (one value throughout), {inside} of them inside"
        if inside and (inside > self.blank_share * (shown.stop - shown.start) or gap_mm > self.blank_gap_mm):
            raise NotAssessableError(
                "PIXEL_CONSTANT",
                f"{found} the volume, with gaps of up to {gap_mm:.1f} mm; at most {self.blank_share:.0%} and "
                f"gaps of {self.blank_gap_mm:g} mm are accepted. Send or convert the whole series again.",
            )
        return Reason(
            "PIXEL_CONSTANT",
            f"{found} the volume. They are not reported as seen; those inside were interpolated, those at "
            "its ends are left out.",
        )

    def check(self, hu: NDArray[np.float32], affine: NDArray[np.float64]) -> tuple[Reason, ...]:
        """Return the warnings on a volume [X, Y, Z]."""
        found = (
            self._check_spacing(voxel_spacing(affine)),
            self._check_noise(hu),
            self._check_metal(hu, voxel_volume_ml(affine)),
            self._check_jumps(hu),
        )
        return tuple(reason for reason in found if reason is not None)

    def _check_spacing(self, spacing: tuple[float, float, float]) -> Reason | None:
        ratio = max(spacing[:2]) / min(spacing[:2])
        if ratio > self.square_limit:
            raise NotAssessableError(
                "NON_SQUARE_PIXELS",
                f"The pixels of the axial slices are {spacing[0]:.2f} mm from right to left and "
                f"{spacing[1]:.2f} mm from front to back; squares are expected, with sides that differ by a "
                f"factor of {self.square_limit:g} at most. Send the original axial series, or resample this "
                "one to square pixels.",
            )
        ranges = {
            "slices": (spacing[2], self.slice_spacing_mm),
            "pixels": (max(spacing[:2]), self.pixel_spacing_mm),
        }
        odd = [
            f"{name} are {value:.2f} mm apart ({low:g} to {high:g})"
            for name, (value, (low, high)) in ranges.items()
            if not low <= value <= high
        ]
        if ratio > self.square_warning:
            odd.append(
                f"sides of a pixel differ by a factor of {ratio:.2f} ({self.square_warning:g} at most)"
            )
        if not odd:
            return None
        return Reason(
            "OUT_OF_TRAINING_RANGE",
            f"The volume lies outside of what the model was trained on: {', '.join(odd)}. Read with care.",
        )

    def _check_noise(self, hu: NDArray[np.float32]) -> Reason | None:
        noise = tissue_noise(hu)
        if noise is None or noise < self.noise_warning_hu:
            return None
        sentence = (
            f"The noise in soft tissue is {noise:.0f} HU; below {self.noise_warning_hu:g} HU is expected."
        )
        if noise >= self.noise_limit_hu:
            raise NotAssessableError("NOISE", sentence)
        return Reason("NOISE", sentence)

    def _check_metal(self, hu: NDArray[np.float32], voxel_ml: float) -> Reason | None:
        metal_ml = sum(np.count_nonzero(plane >= _METAL_HU) for plane in hu.transpose(2, 1, 0)) * voxel_ml
        if metal_ml < self.metal_ml:
            return None
        return Reason(
            "METAL", f"The scan shows {metal_ml:.0f} ml of metal, whose streaks may look like consolidation."
        )

    def _check_jumps(self, hu: NDArray[np.float32]) -> Reason | None:
        jumps = implausible_slices(hu, self.slice_jump)
        if not jumps:
            return None
        return Reason(
            "SLICE_IMPLAUSIBLE",
            f"{len(jumps)} slice(s) differ from their neighbours far more than others do; pixels may be "
            "damaged. Look at the images.",
        )


def tissue_noise(hu: NDArray[np.float32]) -> float | None:
    """Return the standard deviation of the noise in soft tissue in HU, or None without soft tissue.

    From differences of pixels that are neighbours, which anatomy changes little: the median of their sizes is
    not moved by edges (0.6745 standard deviations of a normal distribution, difference of two: root of 2).
    """
    sample = hu[:, :, :: max(1, hu.shape[2] // _NOISE_SLICES)].astype(np.float32, copy=False)
    smooth = ndimage.uniform_filter(sample, (5, 5, 1), mode="nearest")
    tissue = (smooth >= _TISSUE_HU[0]) & (smooth <= _TISSUE_HU[1])
    differences = np.abs(np.diff(sample, axis=0))[tissue[1:] & tissue[:-1]]
    if differences.size < 1000:
        return None
    return float(np.median(differences) / (0.6745 * np.sqrt(2.0)))
