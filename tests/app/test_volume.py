from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImage
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSNearLossless

from builders.dicom import MARKER_HU, make_ct_series, make_enhanced_ct, phantom_hu
from covid_ct_mask_net.app import intake, volume
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.errors import NotAssessableError, RefusedInputError

HU = phantom_hu()


def series_in(folder: Path) -> intake.Series:
    return intake.scan([folder]).studies[0].series[0]


def load(folder: Path) -> volume.SourceVolume:
    return volume.load(series_in(folder))


def code_of(folder: Path) -> str:
    with pytest.raises(NotAssessableError) as caught:
        load(folder)
    return caught.value.code


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_volume_is_what_was_written(tmp_path: Path, shuffle: bool) -> None:
    make_ct_series(tmp_path, shuffle=shuffle)
    loaded = load(tmp_path)
    assert loaded.image.shape == (1, 64, 80, 20)
    np.testing.assert_array_equal(loaded.image[0].numpy().transpose(2, 1, 0), HU)
    heights = [float(header.ImagePositionPatient[2]) for header in loaded.headers if header is not None]
    assert heights == [-50.0 + 5 * k for k in range(20)]
    assert loaded.warnings == ()
    assert loaded.geometry.shape == (64, 80, 20)


def test_the_marker_is_left_anterior_and_superior(tmp_path: Path) -> None:
    # The same patient scanned prone, feet first: rows and columns turn round, the anatomy does not.
    turned = np.ascontiguousarray(HU[::-1, ::-1, :])
    make_ct_series(tmp_path, hu=turned, orientation=(1, 0, 0, 0, -1, 0), origin=(-80.0, 78.0, 45.0))
    loaded = load(tmp_path)
    voxels = np.argwhere(loaded.image[0].numpy() == MARKER_HU)
    places = voxels @ loaded.image.affine.numpy()[:3, :3].T + loaded.image.affine.numpy()[:3, 3]
    right, front, up = places.mean(axis=0)
    assert right < 0 < front
    assert up > 0
    make_ct_series(tmp_path / "supine")
    straight = load(tmp_path / "supine")
    expected = np.argwhere(straight.image[0].numpy() == MARKER_HU) @ straight.image.affine.numpy()[:3, :3].T
    np.testing.assert_allclose(
        places.mean(axis=0), expected.mean(axis=0) + straight.image.affine.numpy()[:3, 3], atol=1e-6
    )


@pytest.mark.parametrize("tilt", [0.0, 12.0])
def test_nifti_written_from_the_volume_loads_as_the_same_volume(tmp_path: Path, tilt: float) -> None:
    make_ct_series(tmp_path / "ct", slope=0.5, intercept=-1000.25, tilt_degrees=tilt)
    loaded = load(tmp_path / "ct")
    path = tmp_path / "volume.nii.gz"
    volume.save_nifti(loaded, path)
    again = LoadImage(image_only=True, ensure_channel_first=True)(path)
    np.testing.assert_array_equal(again.numpy(), loaded.image.numpy())
    np.testing.assert_allclose(again.affine.numpy(), loaded.image.affine.numpy(), rtol=1e-6, atol=1e-5)
    assert again.meta["space"] == loaded.image.meta["space"]
    assert again.dtype == loaded.image.dtype


def test_a_missing_slice_is_interpolated_and_has_no_header(tmp_path: Path) -> None:
    make_ct_series(tmp_path, missing_slices=[7])
    loaded = load(tmp_path)
    assert loaded.image.shape == (1, 64, 80, 20)
    assert [k for k, header in enumerate(loaded.headers) if header is None] == [7]
    assert loaded.interpolated == (7,)
    pixels = loaded.image[0].numpy().transpose(2, 1, 0)
    np.testing.assert_allclose(pixels[7], (HU[6] + HU[8]) / 2)
    np.testing.assert_array_equal(np.delete(pixels, 7, axis=0), np.delete(HU, 7, axis=0))
    assert [warning.code for warning in loaded.warnings] == ["SLICE_GAP"]


def test_two_missing_neighbours_are_weighted_by_distance(tmp_path: Path) -> None:
    make_ct_series(tmp_path, missing_slices=[7, 8])
    pixels = load(tmp_path).image[0].numpy().transpose(2, 1, 0)
    np.testing.assert_allclose(pixels[7], (2 * HU[6] + HU[9]) / 3, rtol=1e-5, atol=1e-2)


def test_a_file_with_cut_pixels_is_left_out_with_a_warning(tmp_path: Path) -> None:
    make_ct_series(tmp_path, truncated_pixels=[7])
    loaded = load(tmp_path)
    assert loaded.headers[7] is None
    assert [warning.code for warning in loaded.warnings] == ["PIXEL_LENGTH", "SLICE_GAP"]
    assert loaded.geometry.warnings == loaded.warnings


def test_a_cut_file_at_the_end_shortens_the_volume_with_a_warning(tmp_path: Path) -> None:
    make_ct_series(tmp_path, truncated_pixels=[19])
    loaded = load(tmp_path)
    assert loaded.image.shape == (1, 64, 80, 19)
    assert [warning.code for warning in loaded.warnings] == ["PIXEL_LENGTH"]
    np.testing.assert_array_equal(loaded.image[0].numpy().transpose(2, 1, 0), HU[:19])


def test_too_many_cut_files_are_the_reason_to_stop(tmp_path: Path) -> None:
    make_ct_series(tmp_path, truncated_pixels=range(10))
    assert code_of(tmp_path) == "PIXEL_LENGTH"


@pytest.mark.parametrize(
    ("constant", "slices", "missing"),
    [
        ((7,), 20, (7,)),
        ((7, 8), 20, (7, 8)),
        ((0,), 19, ()),
        ((0, 19), 18, ()),
    ],
)
@pytest.mark.parametrize("value", [0.0, -1024.0])
def test_slices_of_one_value_are_left_out_with_a_warning(
    tmp_path: Path, constant: tuple[int, ...], slices: int, missing: tuple[int, ...], value: float
) -> None:
    hu = HU.copy()
    hu[list(constant)] = value
    make_ct_series(tmp_path, hu=hu)
    loaded = load(tmp_path)
    assert loaded.interpolated == missing
    kept = [k for k in range(20) if k not in constant]
    shown = np.delete(loaded.image[0].numpy().transpose(2, 1, 0), missing, axis=0)
    np.testing.assert_array_equal(shown, HU[kept])
    assert loaded.image.shape == (1, 64, 80, slices)
    assert [warning.code for warning in loaded.warnings] == [
        "PIXEL_CONSTANT", *(["SLICE_GAP"] if missing else []),
    ]  # fmt: skip
    assert loaded.warnings[0].sentence.startswith(f"{len(constant)} of 20 slices show nothing")


@pytest.mark.parametrize("constant", [(0, 1, 2), (8, 9, 10), (3, 9, 15)])
def test_many_slices_of_one_value_are_the_reason_to_stop(tmp_path: Path, constant: tuple[int, ...]) -> None:
    hu = HU.copy()
    hu[list(constant)] = 0.0
    make_ct_series(tmp_path, hu=hu)
    assert code_of(tmp_path) == "PIXEL_CONSTANT"


def test_a_frame_of_one_value_is_left_out_too(tmp_path: Path) -> None:
    hu = HU.copy()
    hu[7] = 0.0
    make_enhanced_ct(tmp_path, hu=hu)
    loaded = load(tmp_path)
    assert loaded.interpolated == (7,)
    assert [warning.code for warning in loaded.warnings] == ["PIXEL_CONSTANT", "SLICE_GAP"]


def test_a_cut_header_and_its_gap_are_survived(tmp_path: Path) -> None:
    make_ct_series(tmp_path, truncated_header=[7])
    assert load(tmp_path).headers[7] is None


def test_copies_at_one_position_are_dropped_and_others_declined(tmp_path: Path) -> None:
    make_ct_series(tmp_path / "same", duplicated_slices=[4])
    loaded = load(tmp_path / "same")
    assert loaded.image.shape == (1, 64, 80, 20)
    assert [warning.code for warning in loaded.warnings] == ["DUPLICATE_POSITION"]
    (tmp_path / "same" / "copy-0004.dcm").unlink()
    other = HU.copy()
    other[4] += 1
    make_ct_series(tmp_path / "other", hu=other, duplicated_slices=[4], missing_slices=set(range(20)))
    (tmp_path / "other" / "copy-0004.dcm").rename(tmp_path / "same" / "other.dcm")
    assert code_of(tmp_path / "same") == "DUPLICATE_POSITION"


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        if k == 3:
            stored = ((HU[k] + 500) / 4).round().astype("<i2")
            dataset.RescaleSlope, dataset.RescaleIntercept, dataset.PixelData = 4, -500, stored.tobytes()

    make_ct_series(tmp_path, edit=edit)
    np.testing.assert_allclose(load(tmp_path).image[0].numpy().transpose(2, 1, 0), HU, atol=2)


def test_a_first_slice_without_negative_values_does_not_decide_the_type(tmp_path: Path) -> None:
    hu = HU.copy()
    hu[0] = np.maximum(HU[0], 40)
    make_ct_series(tmp_path, hu=hu)
    np.testing.assert_array_equal(load(tmp_path).image[0].numpy().transpose(2, 1, 0), hu)


def test_slices_of_one_value_each_are_declined(tmp_path: Path) -> None:
    make_ct_series(tmp_path, hu=np.full_like(HU, -1000))
    assert code_of(tmp_path) == "NO_CONTENT"


def test_the_voxel_limit_is_checked_before_memory_is_taken(tmp_path: Path) -> None:
    make_ct_series(tmp_path)
    with pytest.raises(RefusedInputError) as caught:
        volume.load(series_in(tmp_path), Limits(voxels=1000))
    assert caught.value.code == "VOXELS"


def test_lossy_history_is_a_warning(tmp_path: Path) -> None:
    make_ct_series(tmp_path, edit=lambda _, dataset: setattr(dataset, "LossyImageCompression", "01"))
    assert [warning.code for warning in load(tmp_path).warnings] == ["LOSSY_COMPRESSION"]


@pytest.mark.parametrize(
    ("syntax", "lossy", "told"),
    [
        (JPEGLSNearLossless, True, ["The images were compressed"]),
        (JPEG2000, True, ["The images may have been compr"]),
        (JPEG2000, False, []),
        (JPEG2000Lossless, True, []),
    ],
)
def test_loss_is_told_by_the_transfer_syntax(
    tmp_path: Path, syntax: str, lossy: bool, told: list[str]
) -> None:
    make_ct_series(tmp_path, transfer_syntax=syntax)
    limits = Limits(lossy=lossy)
    series = intake.scan([tmp_path], limits).studies[0].series[0]
    warnings = volume.load(series, limits).warnings
    assert [warning.code for warning in warnings] == ["LOSSY_COMPRESSION"] * len(told)
    assert [warning.sentence[: len(words)] for warning, words in zip(warnings, told, strict=True)] == told


def test_an_enhanced_ct_is_read_by_its_functional_groups(tmp_path: Path) -> None:
    make_enhanced_ct(tmp_path)
    loaded = load(tmp_path)
    np.testing.assert_array_equal(loaded.image[0].numpy().transpose(2, 1, 0), HU)
    assert loaded.frame_numbers == tuple(range(20, 0, -1))
    assert len({str(header.SOPInstanceUID) for header in loaded.headers if header is not None}) == 1


def test_compressed_series_are_the_same_volume(tmp_path: Path) -> None:
    make_ct_series(tmp_path, transfer_syntax=JPEGLosslessSV1)
    np.testing.assert_array_equal(load(tmp_path).image[0].numpy().transpose(2, 1, 0), HU)


def test_real_series_equal_itks(shared_data: Path) -> None:
    itk = pytest.importorskip("itk")
    for folder in ("lung-dx-a0002/series-2", "lung-dx-a0001/series-3"):
        series = series_in(shared_data / "chest-ct-dicom" / folder)
        loaded = volume.load(series)
        names = itk.GDCMSeriesFileNames.New()
        names.SetDirectory(str(series.instances[0].path.parent))
        image = itk.imread(list(names.GetFileNames(names.GetSeriesUIDs()[0])))
        np.testing.assert_array_equal(loaded.image[0].numpy().transpose(2, 1, 0), itk.array_from_image(image))
        lps = np.diag([-1.0, -1, 1, 1]) @ loaded.image.affine.numpy()
        np.testing.assert_allclose(lps[:3, 3], np.asarray(image.GetOrigin()), atol=1e-6)
        np.testing.assert_allclose(loaded.geometry.spacing_mm, np.asarray(image.GetSpacing()), atol=1e-6)
        directions = itk.array_from_matrix(image.GetDirection()) * np.asarray(image.GetSpacing())
        np.testing.assert_allclose(lps[:3, :3], directions, atol=1e-6)
