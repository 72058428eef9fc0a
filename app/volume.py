"""The chosen series as one volume in Hounsfield units, with the header of each slice beside it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, UID

from covid_ct_mask_net.app import geometry, pixels
from covid_ct_mask_net.app.frames import Frame, StoredValues, frames_of
from covid_ct_mask_net.app.geometry import GeometryRules, StackGeometry
from covid_ct_mask_net.app.headers import FileRefusedError, quiet_pydicom, text
from covid_ct_mask_net.app.intake import Series
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.transfer_syntaxes import LOSSY
from covid_ct_mask_net.errors import NotAssessableError, RefusedInputError
from covid_ct_mask_net.geometry import moved_affine, voxel_spacing
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
from covid_ct_mask_net.results import GeometryReport, Reason

# Code of slices whose pixels all have one value (``pixels.check_content``).
_CONSTANT = "PIXEL_CONSTANT"


@dataclass(frozen=True, eq=False)
class SourceVolume:
    """A CT volume as it was acquired.

    Attributes
    ----------
    image
        MetaTensor, HU, shape (1, columns, rows, slices), affine to RAS mm: what MONAI's ``LoadImaged`` gives
        for a NIfTI file of the same volume. int16 where HU are whole numbers, else float32. Slices that
        were reduced (`ReductionRule`) are int16, with `FullGrid` in the meta data.
    headers
        Along the slice axis, the header of the slice (of the frame, for a multi-frame image); None where
        the slice was interpolated, so nothing on it may be reported as seen.
    frame_numbers
        Along the slice axis, the DICOM frame number (from 1) in a multi-frame image, else None.
    geometry
        Grid and verdict.
    warnings
        What a reader of the result should know: gaps, slices left out, reduced slices, lossy compression.
    """

    image: MetaTensor
    headers: tuple[Dataset | None, ...]
    frame_numbers: tuple[int | None, ...]
    geometry: GeometryReport
    warnings: tuple[Reason, ...] = ()

    @property
    def interpolated(self) -> tuple[int, ...]:
        """Places along the slice axis of which there is no image."""
        return tuple(place for place, header in enumerate(self.headers) if header is None)

    def without_pixels(self) -> SourceVolume:
        """Return the volume without its voxels, for what is done once they were handed on."""
        empty = MetaTensor(torch.empty(1, *self.image.shape[1:3], 0), affine=self.image.affine)
        return replace(self, image=empty)


def load(
    series: Series,
    limits: Limits | None = None,
    rules: GeometryRules | None = None,
    stored_values: StoredValues = pixels.stored_values,
) -> SourceVolume:
    """Read the pixels of a series and put the slices together.

    Slices that cannot be read, or that show nothing (all pixels of one value), are left out with a warning,
    as if their files were missing; a missing slice inside the stack is interpolated linearly from its
    neighbours.

    Parameters
    ----------
    series : Series
        The chosen series: CT images of one stack.
    limits : Limits, optional
        Bounds on the input.
    rules : GeometryRules, optional
        Tolerances of the geometry verdict.
    stored_values : callable, optional
        Reads the pixels of an instance; in this process if not given.

    Raises
    ------
    NotAssessableError
        From ``geometry.assess`` and ``pixels.calibration``; ``DUPLICATE_POSITION`` if two different slices
        are at one position, ``NO_CONTENT`` if each slice has one value, or the reason why too many slices
        cannot be read. Whether the values are those of a chest the first transform tells
        (`transforms.CheckHounsfieldd`).
    RefusedInputError
        ``VOXELS`` if the volume exceeds the limits.
    """
    limits, rules = limits or Limits(), rules or GeometryRules()
    with quiet_pydicom():
        return _load(frames_of(series), limits, rules, stored_values)


def save_nifti(volume: SourceVolume, path: Path) -> None:
    """Write the volume as NIfTI (HU, same affine), so that the bundle can read what the app read."""
    affine = np.asarray(volume.image.affine, dtype=float)
    image = nibabel.Nifti1Image(volume.image[0].numpy(), affine)  # type: ignore[no-untyped-call]
    nibabel.save(image, path)


def _load(
    frames: tuple[Frame, ...], limits: Limits, rules: GeometryRules, stored_values: StoredValues
) -> SourceVolume:
    stack = geometry.assess([frame.header for frame in frames], rules)
    columns, rows, slices = stack.report.shape
    factor = limits.reduction.factor(rows, columns, slices)
    shape = (slices, reduced_side(rows, factor), reduced_side(columns, factor))
    if math.prod(shape) > limits.voxels:
        raise RefusedInputError(
            "VOXELS",
            f"The volume has {columns} x {rows} x {slices} voxels; at most {limits.voxels} are held in "
            "memory (voxels), and slices are not reduced further (reduce_side).",
        )
    kept = _kept(frames, stack, factor)
    signs = upright_signs(stack.affine) if factor > 1 else (1, 1, 1)
    memory = np.empty(shape, dtype=np.float32 if kept is None else np.int16)
    hu = memory[:: signs[2], :: signs[1], :: signs[0]]
    places = [(place, frames[index]) for place, index in enumerate(stack.order) if index is not None]

    def decode(frame: Frame) -> NDArray:
        plane = frame.decode(limits, stored_values)
        return plane if kept is None else kept(plane)

    refusals = _fill(hu, places, decode)
    if refusals:
        return _load_without(frames, refusals, limits, rules, stored_values)
    warnings = [*stack.report.warnings, *_check_duplicates(hu, stack, frames, decode)]
    _interpolate(hu, [place for place, index in enumerate(stack.order) if index is None])
    warnings += _loss(frames, limits)
    image = _meta_tensor(memory, stack.affine, (columns, rows, slices), factor, signs)
    if factor > 1:
        warnings.append(
            reduction_warning(stack.report.shape, factor, voxel_spacing(np.asarray(image.affine)))
        )
    chosen = [None if index is None else frames[index] for index in stack.order]
    return SourceVolume(
        image=image,
        headers=tuple(frame.header if frame else None for frame in chosen),
        frame_numbers=tuple(frame.number if frame else None for frame in chosen),
        geometry=replace(stack.report, warnings=tuple(warnings)),
        warnings=tuple(warnings),
    )


def _loss(frames: tuple[Frame, ...], limits: Limits) -> list[Reason]:
    """Return the warning that images were compressed with loss, by what they say or how they are stored."""
    syntaxes = {UID(frame.instance.header.file_meta.TransferSyntaxUID) for frame in frames}
    declared = any(text(frame.header, "LossyImageCompression") == ("01",) for frame in frames)
    if declared or syntaxes & LOSSY:
        return [Reason("LOSSY_COMPRESSION", "The images were compressed with loss before they came here.")]
    # Without the setting, only code streams that are reversible got this far.
    if limits.lossy and JPEG2000 in syntaxes:
        sentence = (
            "The images may have been compressed with loss before they came here: they are stored as JPEG "
            "2000, which can be either, and do not say which."
        )
        return [Reason("LOSSY_COMPRESSION", sentence)]
    return []


def _kept(
    frames: tuple[Frame, ...], stack: StackGeometry, factor: int
) -> Callable[[NDArray[np.float32]], NDArray[np.int16]] | None:
    """Return what makes the kept slice of a decoded one; None to keep it as it is."""
    if factor > 1:
        return lambda plane: reduced(plane, (factor, factor))
    # What lies between two slices is no whole number.
    if None not in stack.order and all(_has_whole_hu(frame) for frame in frames):
        return whole_numbers
    return None


def _has_whole_hu(frame: Frame) -> bool:
    return all(value.is_integer() for value in pixels.calibration(frame.header))


def _fill(
    hu: NDArray, places: list[tuple[int, Frame]], decode: Callable[[Frame], NDArray]
) -> dict[Frame, FileRefusedError]:
    """Decode each frame into its place and return those that could not be read."""

    def fill(item: tuple[int, Frame]) -> FileRefusedError | None:
        place, frame = item
        try:
            hu[place] = decode(frame)
        except FileRefusedError as refusal:
            return refusal
        return None

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        outcomes = list(pool.map(fill, places))
    return {
        frame: refusal for (_, frame), refusal in zip(places, outcomes, strict=True) if refusal is not None
    }


def _load_without(
    frames: tuple[Frame, ...],
    refusals: dict[Frame, FileRefusedError],
    limits: Limits,
    rules: GeometryRules,
    stored_values: StoredValues,
) -> SourceVolume:
    """Load what can be read, with a warning a reason; too many losses are the study's reason to stop."""
    codes = sorted({refusal.code for refusal in refusals.values()})
    if codes == [_CONSTANT] and len(refusals) == len(frames):
        raise NotAssessableError(
            "NO_CONTENT", "All pixels of each slice have the same value; a CT of a chest is expected."
        )
    reasons = []
    for code in codes:
        same = [refusal for refusal in refusals.values() if refusal.code == code]
        what = "show nothing" if code == _CONSTANT else "could not be read"
        reasons.append(
            Reason(code, f"{len(same)} of {len(frames)} slices {what} and are left out. {same[0].sentence}")
        )
    if len(refusals) > rules.missing_share * len(frames):
        raise NotAssessableError(reasons[0].code, reasons[0].sentence)
    volume = _load(tuple(frame for frame in frames if frame not in refusals), limits, rules, stored_values)
    warnings = (*reasons, *volume.warnings)
    return replace(volume, warnings=warnings, geometry=replace(volume.geometry, warnings=warnings))


def _check_duplicates(
    hu: NDArray, stack: StackGeometry, frames: tuple[Frame, ...], decode: Callable[[Frame], NDArray]
) -> list[Reason]:
    places = {index: place for place, index in enumerate(stack.order) if index is not None}
    for left_out, kept in stack.duplicates:
        try:
            same = np.array_equal(decode(frames[left_out]), hu[places[kept]])
        except FileRefusedError:
            same = False
        if not same:
            raise NotAssessableError(
                "DUPLICATE_POSITION",
                f"{len(stack.duplicates)} slices lie at the position of another one and at least one has "
                "other pixels; which ones belong together cannot be known.",
            )
    if not stack.duplicates:
        return []
    sentence = f"{len(stack.duplicates)} slices are copies of others at the same position and were left out."
    return [Reason("DUPLICATE_POSITION", sentence)]


def _interpolate(hu: NDArray, missing: list[int]) -> None:
    """Fill missing slices linearly between the nearest read ones; first and last are never missing."""
    read = np.setdiff1d(np.arange(len(hu)), missing)
    for place in missing:
        above = int(np.searchsorted(read, place))
        low, high = int(read[above - 1]), int(read[above])
        share = np.float32((place - low) / (high - low))
        between = hu[low] * (1 - share) + hu[high] * share
        hu[place] = np.rint(between) if hu.dtype == np.int16 else between


def _meta_tensor(
    hu: NDArray,
    source_affine: NDArray[np.float64],
    source_shape: tuple[int, int, int],
    factor: int,
    signs: tuple[int, int, int],
) -> MetaTensor:
    image = torch.from_numpy(hu.transpose(2, 1, 0))[None]
    factors = (factor, factor, 1)
    affine = moved_affine(reduced_affine(source_affine, factors), (0, 1, 2), signs, image.shape[1:])
    meta: dict[str, Any] = {
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(image.shape[1:]),
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
    }
    if factor > 1:
        meta[FULL_GRID] = FullGrid(source_affine, source_shape, factors)
    return MetaTensor(image, affine=torch.from_numpy(affine.copy()), meta=meta)
