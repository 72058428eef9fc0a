from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest

from covid_ct_mask_net.axial_planes import AxialRules, check_planes, plane_tilt
from covid_ct_mask_net.errors import NotAssessableError

# Canonical axes L, P, S in RAS+.
CANONICAL = np.array([[-0.8, 0, 0, 100], [0, -0.8, 0, 80], [0, 0, 1.0, -300], [0, 0, 0, 1.0]])
SHAPE = (40, 50, 60)
STORED = [
    nibabel.orientations.axcodes2ornt(codes)
    for order in itertools.permutations(("LR", "PA", "SI"))
    for codes in itertools.product(*order)
]


def turned(degrees: float, axis: int = 0) -> np.ndarray:
    """The grid turned about an axis of the patient."""
    angle, (first, second) = np.radians(degrees), [other for other in range(3) if other != axis]
    rotation = np.eye(4)
    rotation[[first, second], [first, second]] = np.cos(angle)
    rotation[first, second], rotation[second, first] = -np.sin(angle), np.sin(angle)
    return rotation @ CANONICAL


def tilted(degrees: float) -> np.ndarray:
    """Axial planes, each next one further to the front."""
    affine = CANONICAL.copy()
    affine[1, 2] = np.tan(np.radians(degrees))
    return affine


def stored(affine: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """The affine of the same volume with its axes stored in another order."""
    canonical = nibabel.orientations.axcodes2ornt("LPS")
    change = nibabel.orientations.ornt_transform(canonical, orientation)
    return affine @ nibabel.orientations.inv_ornt_aff(change, SHAPE)


def code(affine: np.ndarray, rules: AxialRules | None = None) -> str:
    with pytest.raises(NotAssessableError) as caught:
        check_planes(affine, rules)
    assert caught.value.sentence.endswith(".")
    return caught.value.code


@pytest.mark.parametrize("orientation", STORED, ids=lambda o: "".join(nibabel.orientations.ornt2axcodes(o)))
def test_the_order_of_the_axes_changes_no_verdict(orientation: np.ndarray) -> None:
    assert check_planes(stored(CANONICAL, orientation)) == ()
    assert plane_tilt(stored(CANONICAL, orientation)) == 0.0
    assert plane_tilt(stored(tilted(15.0), orientation)) == pytest.approx(15.0)
    assert [w.code for w in check_planes(stored(tilted(15.0), orientation))] == ["GANTRY_TILT"]
    assert check_planes(stored(turned(34.0), orientation)) == ()
    assert code(stored(turned(44.0), orientation)) == "NOT_AXIAL"
    assert code(stored(turned(44.0, axis=1), orientation)) == "NOT_AXIAL"
    assert code(stored(tilted(34.0), orientation)) == "GANTRY_TILT"


def test_the_angle_is_told_and_its_limits_are_rules() -> None:
    with pytest.raises(NotAssessableError, match="stand at 44 degrees to axial ones; at most 35"):
        check_planes(turned(44.0))
    assert check_planes(turned(44.0), AxialRules(axial_degrees=45.0)) == ()
    assert code(turned(20.0), AxialRules(axial_degrees=19.0)) == "NOT_AXIAL"
    assert check_planes(tilted(15.0), AxialRules(tilt_degrees=16.0)) == ()


def test_pixels_are_right_angled() -> None:
    sheared = CANONICAL.copy()
    sheared[0, 1] = 0.1
    with pytest.raises(NotAssessableError, match=r"at 82\.9 degrees; a right angle"):
        check_planes(sheared)
    assert code(sheared) == "ORIENTATION_INCONSISTENT"
    # A patient who lies askew has axial planes all the same.
    assert check_planes(turned(30.0, axis=2)) == ()
