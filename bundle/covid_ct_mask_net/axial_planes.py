"""Are the planes of a volume axial, and how far are they sheared? One gate for DICOM and NIfTI.

The networks read axial slices. Whatever the order in which voxels are stored, what counts is how the plane of
the slices stands in the patient and in which direction the next one follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.geometry import canonical_axes
from covid_ct_mask_net.results import Reason


@dataclass(frozen=True)
class AxialRules:
    """What counts as axial.

    Attributes
    ----------
    unit_tolerance
        Rows and columns may miss a right angle by this cosine.
    axial_degrees
        The slice normal may lie this far from the patient's long axis.
    tilt_degrees, maximum_tilt_degrees
        From the first on the angle between step and slice normal is reported, beyond the second declined.
    """

    unit_tolerance: float = 5e-3
    axial_degrees: float = 35.0
    tilt_degrees: float = 0.5
    maximum_tilt_degrees: float = 31.0


def check_planes(affine: NDArray[np.float64], rules: AxialRules | None = None) -> tuple[Reason, ...]:
    """Return warnings about the axial planes of a volume, or raise if it has none.

    Parameters
    ----------
    affine : NDArray
        float64 (4, 4): voxel to RAS mm, axes in any order.
    rules : AxialRules, optional
        Tolerances.

    Raises
    ------
    NotAssessableError
        ``ORIENTATION_INCONSISTENT`` where rows and columns are not at a right angle, ``NOT_AXIAL``,
        ``GANTRY_TILT``.
    """
    rules = rules or AxialRules()
    row, column, step = _directions(affine)
    crossing = abs(float(row @ column))
    if crossing > rules.unit_tolerance:
        raise NotAssessableError(
            "ORIENTATION_INCONSISTENT",
            f"Rows and columns of the axial slices are at {np.degrees(np.arccos(crossing)):.1f} degrees; a "
            "right angle is expected. Resample the volume to a grid without shear.",
        )
    normal = np.cross(row, column)
    check_axial(normal, rules)
    return tilt_warnings(checked_tilt(step, normal, rules), rules)


def plane_tilt(affine: NDArray[np.float64]) -> float:
    """Return the angle in degrees between the step from axial slice to axial slice and their normal.

    Parameters
    ----------
    affine : NDArray
        float64 (4, 4): voxel to RAS mm, axes in any order.
    """
    row, column, step = _directions(affine)
    return _angle(step, np.cross(row, column))


def check_axial(normal: NDArray[np.float64], rules: AxialRules) -> None:
    """Let slices through whose normal (RAS or LPS, any length) is near the patient's long axis.

    Raises
    ------
    NotAssessableError
        ``NOT_AXIAL``.
    """
    cosine = abs(float(normal[2])) / float(np.linalg.norm(normal))
    angle = float(np.degrees(np.arccos(min(1.0, cosine))))
    if angle > rules.axial_degrees:
        raise NotAssessableError(
            "NOT_AXIAL",
            f"The slices stand at {angle:.0f} degrees to axial ones; at most {rules.axial_degrees:g} are "
            "accepted.",
        )


def checked_tilt(step: NDArray[np.float64], normal: NDArray[np.float64], rules: AxialRules) -> float:
    """Return the angle in degrees between the step from slice to slice and the slice normal.

    Raises
    ------
    NotAssessableError
        ``GANTRY_TILT``.
    """
    tilt = _angle(step, normal)
    if tilt > rules.maximum_tilt_degrees:
        raise NotAssessableError(
            "GANTRY_TILT",
            f"The slices are tilted by {tilt:.1f} degrees against the direction of the table; at most "
            f"{rules.maximum_tilt_degrees:g} are accepted.",
        )
    return tilt


def tilt_warnings(tilt: float, rules: AxialRules) -> tuple[Reason, ...]:
    """Return what is said about a tilt in degrees: nothing where it is negligible."""
    if tilt <= rules.tilt_degrees:
        return ()
    return (
        Reason(
            "GANTRY_TILT", f"The gantry was tilted by {tilt:.1f} degrees; positions and volumes allow for it."
        ),
    )


def _directions(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unit vectors (RAS) of the canonical axes L, P, S, one a row."""
    order, signs = canonical_axes(affine)
    columns = affine[:3, list(order)] * np.array(signs)
    directions: NDArray[np.float64] = (columns / np.linalg.norm(columns, axis=0)).T
    return directions


def _angle(step: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal)))
