from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from builders.dicom import CORONAL, SAGITTAL
from covid_ct_mask_net.app.geometry import GeometryRules, StackGeometry, assess, plane_normal
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.geometry import RAS_TO_LPS

AXIAL = (1, 0, 0, 0, 1, 0)


def stack(
    count: int = 20, orientation: object = AXIAL, origin: object = (-80, -70, -50), step: object = (0, 0, 5)
) -> list[Dataset]:
    headers = []
    for k in range(count):
        header = Dataset()
        header.Rows, header.Columns = 80, 64
        header.PixelSpacing = [2.0, 2.5]
        header.SliceThickness = 5
        header.SOPInstanceUID = f"1.2.{k}"
        header.ImageOrientationPatient = list(np.asarray(orientation, dtype=float))
        header.ImagePositionPatient = list(
            np.asarray(origin, dtype=float) + k * np.asarray(step, dtype=float)
        )
        headers.append(header)
    return headers


def code_of(headers: list[Dataset], rules: GeometryRules | None = None) -> str:
    with pytest.raises(NotAssessableError) as caught:
        assess(headers, rules)
    assert caught.value.sentence.endswith(".")
    return caught.value.code


def patient(geometry: StackGeometry, voxel: tuple[int, int, int]) -> NDArray:
    """Return the LPS position of a voxel [column, row, slice]."""
    return (RAS_TO_LPS @ geometry.affine @ [*voxel, 1])[:3]


def expected(header: Dataset, column: int, row: int) -> NDArray:
    """Return the LPS position of a pixel by PS3.3 equation C.7.6.2.1-1."""
    cosines = np.array(header.ImageOrientationPatient, dtype=float)
    between_rows, between_columns = header.PixelSpacing
    position = np.array(header.ImagePositionPatient, dtype=float)
    return position + cosines[:3] * between_columns * column + cosines[3:] * between_rows * row


ORIENTATIONS: dict[str, tuple[object, object, str]] = {
    "head first supine": (AXIAL, (0, 0, 5), "LPS"),
    "slices from superior to inferior": (AXIAL, (0, 0, -5), "LPS"),
    "prone": ((-1, 0, 0, 0, -1, 0), (0, 0, 5), "RAS"),
    "feet first supine": ((-1, 0, 0, 0, 1, 0), (0, 0, 5), "RPI"),
    "decubitus left": ((0, -1, 0, 1, 0, 0), (0, 0, 5), "ALS"),
    "mirrored": ((1, 0, 0, 0, -1, 0), (0, 0, 5), "LAI"),
    "oblique": ((0.98480775, 0.17364818, 0, -0.17364818, 0.98480775, 0), (0, 0, 5), "LPS"),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_voxel_lies_where_the_standard_says(name: str) -> None:
    orientation, step, letters = ORIENTATIONS[name]
    headers = stack(orientation=orientation, step=step)
    geometry = assess(headers)
    assert geometry.report.orientation == letters
    assert geometry.report.shape == (64, 80, 20)
    np.testing.assert_allclose(geometry.report.spacing_mm, (2.5, 2.0, 5.0))
    for place, index in enumerate(geometry.order):
        assert index is not None
        for column, row in ((0, 0), (63, 0), (0, 79), (10, 20)):
            position = patient(geometry, (column, row, place))
            np.testing.assert_allclose(position, expected(headers[index], column, row), atol=1e-4)


def test_the_order_comes_from_positions_alone() -> None:
    headers = stack()
    for number, header in enumerate(headers):
        header.InstanceNumber = 20 - number
    shuffled = [headers[k] for k in np.random.default_rng(3).permutation(20)]
    geometry = assess(shuffled)
    heights = [
        float(shuffled[index].ImagePositionPatient[2]) for index in geometry.order if index is not None
    ]
    assert heights == sorted(heights)
    np.testing.assert_array_equal(geometry.affine, assess(headers).affine)


def test_a_regular_stack_has_no_warnings() -> None:
    report = assess(stack()).report
    assert (report.warnings, report.missing_slices, report.slice_thickness_mm) == ((), 0, 5.0)
    assert report.gantry_tilt_degrees == pytest.approx(0, abs=1e-9)


def test_rounded_positions_are_regular() -> None:
    headers = stack(count=200, step=(0, 0, 0.703125))
    for header in headers:
        header.ImagePositionPatient = [f"{float(value):.2f}" for value in header.ImagePositionPatient]
    report = assess(headers).report
    assert report.spacing_mm[2] == pytest.approx(0.703125, abs=1e-4)
    assert report.missing_slices == 0


@pytest.mark.parametrize("degrees", [10.0, -20.0, 30.0])
def test_gantry_tilt_is_measured_and_carried_by_the_affine(degrees: float) -> None:
    angle = np.radians(degrees)
    headers = stack(orientation=(1, 0, 0, 0, np.cos(angle), -np.sin(angle)))
    geometry = assess(headers)
    assert geometry.report.gantry_tilt_degrees == pytest.approx(abs(degrees), abs=1e-3)
    assert [warning.code for warning in geometry.report.warnings] == ["GANTRY_TILT"]
    for place in (0, 7, 19):
        np.testing.assert_allclose(
            patient(geometry, (5, 70, place)), expected(headers[place], 5, 70), atol=1e-6
        )
    assert abs(np.linalg.det(geometry.affine[:3, :3])) == pytest.approx(2.5 * 2 * 5 * np.cos(angle), rel=1e-6)


def test_tilt_beyond_the_limit_is_declined_with_its_angle() -> None:
    angle = np.radians(33)
    with pytest.raises(NotAssessableError, match=r"33\.0 degrees") as caught:
        assess(stack(orientation=(1, 0, 0, 0, np.cos(angle), -np.sin(angle))))
    assert caught.value.code == "GANTRY_TILT"


def test_a_gap_leaves_a_place_without_header() -> None:
    headers = stack(count=40)
    del headers[7], headers[30]
    geometry = assess(headers)
    assert [place for place, index in enumerate(geometry.order) if index is None] == [7, 31]
    assert geometry.report.missing_slices == 2
    assert geometry.report.spacing_mm[2] == pytest.approx(5)
    assert [warning.code for warning in geometry.report.warnings] == ["SLICE_GAP"]
    assert "2 of 40" in geometry.report.warnings[0].sentence


def test_many_missing_slices_or_a_wide_gap_are_declined() -> None:
    headers = stack()
    assert code_of(headers[:8] + headers[11:]) == "SLICE_GAP"
    headers = stack(count=100)
    assert code_of(headers[:50] + headers[56:]) == "SLICE_GAP"


@pytest.mark.parametrize(
    "heights",
    [
        [0, 5, 10, 20] * 1,
        np.cumsum([5, 5, 10] * 8),
        np.cumsum([5] * 15 + [6] + [5] * 5),
        np.concatenate([np.arange(10) * 5, 50 + np.arange(10) * 2.5]),
    ],
)
def test_irregular_spacing_is_declined(heights: NDArray) -> None:
    headers = stack(len(heights))
    for header, height in zip(headers, heights, strict=True):
        header.ImagePositionPatient = [-80, -70, float(height)]
    assert code_of(headers) == "SPACING_IRREGULAR"


def test_slices_at_one_position_are_pairs_of_duplicates() -> None:
    headers = stack()
    again = stack()[4]
    again.SOPInstanceUID = "1.9"
    again.ImagePositionPatient = [-80, -70, -29.999]
    geometry = assess([*headers, again])
    assert geometry.duplicates == ((20, 4),)
    assert geometry.order == tuple(range(20))


def test_a_slice_off_the_line_is_declined() -> None:
    headers = stack()
    headers[9].ImagePositionPatient = [-70, -70, -5]
    assert code_of(headers) == "POSITION_IRREGULAR"


def edited(keyword: str, value: object) -> Callable[[], list[Dataset]]:
    def make() -> list[Dataset]:
        headers = stack()
        headers[3][keyword].value = value
        return headers

    return make


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: stack(orientation=CORONAL, step=(0, 5, 0)), "NOT_AXIAL"),
        (lambda: stack(orientation=SAGITTAL, step=(5, 0, 0)), "NOT_AXIAL"),
        (lambda: stack(step=(0, 0, 0)), "TOO_FEW_SLICES"),
        (edited("ImageOrientationPatient", [1, 0, 0, 0, 0.7, 0]), "ORIENTATION_INCONSISTENT"),
        (edited("ImageOrientationPatient", [1, 0, 0, 0.1, 0.995, 0]), "ORIENTATION_INCONSISTENT"),
        (edited("ImageOrientationPatient", [-1, 0, 0, 0, -1, 0]), "ORIENTATION_INCONSISTENT"),
        (edited("ImageOrientationPatient", [1, 0, 0]), "GEOMETRY_ATTRIBUTE"),
        (edited("ImagePositionPatient", None), "GEOMETRY_ATTRIBUTE"),
        (edited("PixelSpacing", None), "GEOMETRY_ATTRIBUTE"),
        (edited("PixelSpacing", [0, 2.5]), "GEOMETRY_ATTRIBUTE"),
        (edited("PixelSpacing", [2.0, 2.6]), "SPACING_INCONSISTENT"),
        (edited("Rows", 81), "DIMENSIONS_INCONSISTENT"),
    ],
)
def test_what_is_not_a_volume_is_declined(make: Callable[[], list[Dataset]], code: str) -> None:
    assert code_of(make()) == code


def test_a_position_that_is_not_a_number_is_declined() -> None:
    headers = stack()
    headers[3].ImagePositionPatient = [-80, -70, float("nan")]
    assert code_of(headers) == "GEOMETRY_ATTRIBUTE"


def test_plane_normal() -> None:
    np.testing.assert_allclose(plane_normal(stack(1)[0]), (0, 0, 1))  # type: ignore[arg-type]
    assert plane_normal(Dataset()) is None
