"""Where the slices of a CT lie, and whether they make a volume: told from the headers alone.

Order and grid come from Image Position (Patient) and Image Orientation (Patient) (PS3.3 C.7.6.2), never
from instance numbers or file names. Feet-first, prone and decubitus patients need no special case: the
attributes are in patient coordinates. A stack is a grid when one step leads from each slice to the next;
the step may be oblique to the image plane (gantry tilt), and the affine then carries that shear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from covid_ct_mask_net.app import headers as attributes
from covid_ct_mask_net.axial_planes import AxialRules, check_axial, checked_tilt, tilt_warnings
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.geometry import RAS_TO_LPS
from covid_ct_mask_net.results import GeometryReport, Reason


@dataclass(frozen=True)
class GeometryRules:
    """Tolerances of the verdict.

    Attributes
    ----------
    unit_tolerance
        Direction cosines may miss length 1 and a right angle by this much (they are rounded in files).
    parallel_degrees
        Slices of one stack may differ in orientation by this angle.
    axial_degrees
        The slice normal may lie this far from the patient's long axis.
    duplicate_share, spacing_share
        Shares of the slice spacing: below the first two slices are at one position; an interval that misses
        a whole multiple of the spacing by more than the second is irregular.
    sideways_mm
        A slice may lie this far off the line through the first and the last one.
    tilt_degrees, maximum_tilt_degrees
        From the first on the angle between step and slice normal is reported, beyond the second declined.
    missing_share, maximum_gap_mm
        Slices may be missing up to this share, and no gap may be wider than this.
    """

    unit_tolerance: float = AxialRules.unit_tolerance
    parallel_degrees: float = 0.5
    axial_degrees: float = AxialRules.axial_degrees
    duplicate_share: float = 0.1
    spacing_share: float = 0.1
    sideways_mm: float = 1.0
    tilt_degrees: float = AxialRules.tilt_degrees
    maximum_tilt_degrees: float = AxialRules.maximum_tilt_degrees
    missing_share: float = 0.1
    maximum_gap_mm: float = 25.0

    @property
    def axial(self) -> AxialRules:
        """Those that hold for NIfTI too."""
        return AxialRules(
            self.unit_tolerance, self.axial_degrees, self.tilt_degrees, self.maximum_tilt_degrees
        )


@dataclass(frozen=True, eq=False)
class StackGeometry:
    """The grid of a stack of slices.

    Attributes
    ----------
    order
        For each slice of the grid, along the slice normal, the index of its header; None where a slice is
        missing and has to be interpolated from its neighbours.
    affine
        float64 (4, 4): voxel [column, row, slice] to RAS mm.
    duplicates
        Indices of headers left out of ``order`` because another one (second of the pair) is at the same
        position. They are harmless only if their pixels are the same.
    report
        What is said about the grid, with its warnings.
    """

    order: tuple[int | None, ...]
    affine: NDArray[np.float64]
    duplicates: tuple[tuple[int, int], ...]
    report: GeometryReport


def assess(headers: Sequence[Dataset], rules: GeometryRules | None = None) -> StackGeometry:
    """Order the slices and judge whether they form a volume.

    Parameters
    ----------
    headers : sequence of Dataset
        One per slice, in any order; at least two.
    rules : GeometryRules, optional
        Tolerances.

    Returns
    -------
    StackGeometry
        Warnings in its report: ``SLICE_GAP``, ``GANTRY_TILT``.

    Raises
    ------
    NotAssessableError
        ``GEOMETRY_ATTRIBUTE``, ``DIMENSIONS_INCONSISTENT``, ``SPACING_INCONSISTENT``,
        ``ORIENTATION_INCONSISTENT``, ``NOT_AXIAL``, ``TOO_FEW_SLICES``, ``SPACING_IRREGULAR``,
        ``SLICE_GAP``, ``POSITION_IRREGULAR``, ``GANTRY_TILT``.
    """
    rules = rules or GeometryRules()
    columns, rows = _dimensions(headers)
    row_spacing, column_spacing = _pixel_spacing(headers)
    row, column = _orientation(headers, rules)
    normal = np.cross(row, column)
    check_axial(normal, rules.axial)
    positions = _positions(headers)
    kept, duplicates = _distinct(
        positions @ normal, rules, [str(h.get("SOPInstanceUID", "")) for h in headers]
    )
    places = _places((positions @ normal)[kept], rules)
    count = int(places[-1]) + 1
    step = (positions[kept[-1]] - positions[kept[0]]) / (count - 1)
    _check_straight(positions[kept], places, step, rules)
    tilt = checked_tilt(step, normal, rules.axial)

    order: list[int | None] = [None] * count
    for place, index in zip(places, kept, strict=True):
        order[place] = int(index)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = row * column_spacing, column * row_spacing, step
    lps[:3, 3] = positions[kept[0]]
    affine = RAS_TO_LPS @ lps
    report = GeometryReport(
        shape=(columns, rows, count),
        spacing_mm=(column_spacing, row_spacing, float(np.linalg.norm(step))),
        orientation="".join(nibabel.aff2axcodes(affine)),  # type: ignore[no-untyped-call]
        slice_thickness_mm=_thickness(headers),
        gantry_tilt_degrees=tilt,
        missing_slices=count - len(kept),
        warnings=_warnings(tilt, count - len(kept), count, rules),
    )
    return StackGeometry(tuple(order), affine, duplicates, report)


def plane_normal(header: Dataset) -> NDArray[np.float64] | None:
    """Return the unit normal (LPS) of one image's plane, or None if the header does not give a plane."""
    values = attributes.numbers(header, "ImageOrientationPatient", 6)
    if values is None:
        return None
    normal = np.cross(values[:3], values[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0.5 else None


def _dimensions(headers: Sequence[Dataset]) -> tuple[int, int]:
    sizes = {(int(header.Columns), int(header.Rows)) for header in headers}
    if len(sizes) > 1:
        raise NotAssessableError(
            "DIMENSIONS_INCONSISTENT",
            f"The slices have {len(sizes)} different sizes in pixels; one is expected.",
        )
    return sizes.pop()


def _pixel_spacing(headers: Sequence[Dataset]) -> tuple[float, float]:
    """Return the distance in mm between rows and between columns (PS3.3 10.7.1.3)."""
    spacings = [attributes.numbers(header, "PixelSpacing", 2) for header in headers]
    if any(spacing is None or min(spacing) <= 0 for spacing in spacings):
        raise NotAssessableError(
            "GEOMETRY_ATTRIBUTE", "Pixel Spacing is missing or not positive in a slice; nothing is guessed."
        )
    between_rows, between_columns = np.array(spacings, dtype=float).T
    for spacing in (between_rows, between_columns):
        if not np.allclose(spacing, spacing[0], rtol=1e-3, atol=0):
            raise NotAssessableError(
                "SPACING_INCONSISTENT",
                f"Pixel Spacing goes from {spacing.min():g} to {spacing.max():g} mm within the series; one "
                "value is expected.",
            )
    return float(between_rows[0]), float(between_columns[0])


def _orientation(headers: Sequence[Dataset], rules: GeometryRules) -> tuple[NDArray, NDArray]:
    """Return the unit vectors (LPS) along which columns and rows are counted, made exactly orthogonal."""
    values = [attributes.numbers(header, "ImageOrientationPatient", 6) for header in headers]
    if any(value is None for value in values):
        raise NotAssessableError(
            "GEOMETRY_ATTRIBUTE", "Image Orientation (Patient) is missing or not six numbers in a slice."
        )
    cosines = np.array(values, dtype=float).reshape(-1, 2, 3)
    lengths = np.linalg.norm(cosines, axis=2)
    crossing = np.abs(np.einsum("ij,ij->i", cosines[:, 0], cosines[:, 1]))
    if np.abs(lengths - 1).max() > rules.unit_tolerance or crossing.max() > rules.unit_tolerance:
        raise NotAssessableError(
            "ORIENTATION_INCONSISTENT",
            "Image Orientation (Patient) is not a pair of orthogonal unit vectors in every slice.",
        )
    cosines /= lengths[..., None]
    agreement = np.clip(np.einsum("ijk,jk->ij", cosines, cosines[0]), -1, 1)
    angle = float(np.degrees(np.arccos(agreement)).max())
    if angle > rules.parallel_degrees:
        raise NotAssessableError(
            "ORIENTATION_INCONSISTENT",
            f"Slices of the series differ in orientation by {angle:.1f} degrees; at most "
            f"{rules.parallel_degrees:g} are accepted.",
        )
    row = cosines[0, 0]
    column = cosines[0, 1] - row * (row @ cosines[0, 1])
    return row, column / np.linalg.norm(column)


def _positions(headers: Sequence[Dataset]) -> NDArray[np.float64]:
    values = [attributes.numbers(header, "ImagePositionPatient", 3) for header in headers]
    if any(value is None for value in values):
        raise NotAssessableError(
            "GEOMETRY_ATTRIBUTE", "Image Position (Patient) is missing or not three numbers in a slice."
        )
    return np.array(values, dtype=float)


def _distinct(
    distances: NDArray, rules: GeometryRules, uids: Sequence[str]
) -> tuple[NDArray[np.intp], tuple[tuple[int, int], ...]]:
    """Return the headers in order, one per position, and the pairs (left out, kept) of duplicates."""
    order = np.array(sorted(range(len(distances)), key=lambda index: (distances[index], uids[index])))
    intervals = np.diff(distances[order])
    clear = intervals[intervals > 1e-3]
    if not len(clear):
        raise NotAssessableError(
            "TOO_FEW_SLICES",
            f"The {len(order)} slices are all at one position; a stack of slices is expected.",
        )
    limit = rules.duplicate_share * float(np.median(clear))
    kept = [int(order[0])]
    duplicates = []
    for index in order[1:]:
        if distances[index] - distances[kept[-1]] > limit:
            kept.append(int(index))
        else:
            duplicates.append((int(index), kept[-1]))
    return np.array(kept), tuple(duplicates)


def _places(distances: NDArray, rules: GeometryRules) -> NDArray[np.intp]:
    """Return the place of each slice on a regular grid, from 0; a missing slice leaves its place out."""
    intervals = np.diff(distances)
    spacing = float(np.median(intervals))
    # Rounding of positions must not add up: the spacing is refined over all intervals of whole multiples.
    steps = np.maximum(1, np.rint(intervals / spacing))
    spacing = float(intervals.sum() / steps.sum())
    off = float(np.abs(intervals - steps * spacing).max())
    missing, wider = int((steps - 1).sum()), int((steps > 1).sum())
    found = f"intervals between slices go from {intervals.min():.2f} to {intervals.max():.2f} mm"
    if off > rules.spacing_share * spacing or wider > rules.missing_share * len(intervals):
        raise NotAssessableError("SPACING_IRREGULAR", f"The {found}; a constant one is expected.")
    count = int(steps.sum()) + 1
    if missing > rules.missing_share * count or (wider and intervals.max() > rules.maximum_gap_mm):
        raise NotAssessableError(
            "SLICE_GAP",
            f"{missing} of {count} slices are missing ({found}); at most {rules.missing_share:.0%} and gaps "
            f"of {rules.maximum_gap_mm:g} mm are accepted. Send the whole series.",
        )
    return np.concatenate([[0], np.cumsum(steps)]).astype(np.intp)


def _check_straight(positions: NDArray, places: NDArray, step: NDArray, rules: GeometryRules) -> None:
    deviation = float(np.linalg.norm(positions - (positions[0] + places[:, None] * step), axis=1).max())
    if deviation > max(rules.sideways_mm, rules.spacing_share * float(np.linalg.norm(step))):
        raise NotAssessableError(
            "POSITION_IRREGULAR",
            f"A slice lies {deviation:.1f} mm off the line through the first and the last one; at most "
            f"{rules.sideways_mm:g} mm are accepted.",
        )


def _thickness(headers: Sequence[Dataset]) -> float | None:
    values = [
        value for header in headers if (value := attributes.number(header, "SliceThickness")) is not None
    ]
    return float(np.median(values)) if values and min(values) > 0 else None


def _warnings(tilt: float, missing: int, count: int, rules: GeometryRules) -> tuple[Reason, ...]:
    warnings = []
    if missing:
        warnings.append(
            Reason(
                "SLICE_GAP",
                f"{missing} of {count} slices are missing inside the series; they were interpolated and are "
                "not reported as seen.",
            )
        )
    return (*warnings, *tilt_warnings(tilt, rules.axial))
