from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from covid_ct_mask_net.errors import OutputError
from covid_ct_mask_net.training.synthesis.dicom_files import SeriesText, write_series
from covid_ct_mask_net.training.synthesis.phantom import Chest

TEXT = SeriesText("SYN-1", "1", "CHEST LUNG", "LUNG")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, chest: Chest) -> list[Path]:
    return write_series(tmp_path_factory.mktemp("series"), chest.hu, chest.grid, TEXT)


def test_pixels_and_positions(files: list[Path], chest: Chest) -> None:
    image = pydicom.dcmread(files[3])
    hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
    assert np.array_equal(hu, np.rint(chest.hu[3]).clip(-1024, 3071))
    z, y, x = chest.grid.origin
    expected = [x, y, z + 3 * chest.grid.spacing[0]]
    assert np.allclose(image.ImagePositionPatient, expected, atol=1e-3)
    assert np.allclose(image.PixelSpacing, chest.grid.spacing[1:], atol=1e-5)


def test_images_are_one_series_with_unlike_instances(files: list[Path]) -> None:
    images = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    assert len({image.SeriesInstanceUID for image in images}) == 1
    assert len({image.SOPInstanceUID for image in images}) == len(files)
    assert all(image.ImageType == ["ORIGINAL", "PRIMARY", "AXIAL"] for image in images)
    assert {image.PatientAge for image in images} == {"050Y"}


def test_lesions_in_real_images_make_them_derived(tmp_path: Path, chest: Chest) -> None:
    text = SeriesText("SYN-2", "1", "CHEST", "LUNG", derived_from="A collection, CC BY 4.0")
    image = pydicom.dcmread(write_series(tmp_path, chest.hu[:1], chest.grid, text)[0])
    assert image.ImageType[0] == "DERIVED"
    assert "CC BY 4.0" in image.DerivationDescription
    assert "PatientAge" not in image, "that of a real person is not made up"


def test_same_volume_same_bytes(files: list[Path], tmp_path: Path, chest: Chest) -> None:
    again = write_series(tmp_path, chest.hu, chest.grid, TEXT)
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]


def test_files_where_a_folder_is_wanted_are_refused(tmp_path: Path, chest: Chest) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError) as refused:
        write_series(tmp_path / "taken", chest.hu, chest.grid, TEXT)
    assert refused.value.code == "COHORT_NOT_WRITTEN"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
def test_dciodvfy_finds_no_error(files: list[Path]) -> None:
    for file in (files[0], files[-1]):
        run = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        errors = [line for line in run.stderr.splitlines() if line.startswith("Error")]
        assert not errors
        assert "CTImage" in run.stderr
