"""Synthetic volumes as DICOM CT series (PS3.3 A.3), the same bytes for the same volume and names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from covid_ct_mask_net import __version__
from covid_ct_mask_net.errors import OutputError
from covid_ct_mask_net.identifiers import derive_uid
from covid_ct_mask_net.training.synthesis.grids import Grid, Volume

_INTERCEPT = -1024


@dataclass(frozen=True)
class SeriesText:
    """What the headers of a series say.

    Attributes
    ----------
    patient, study
        Identifiers that UIDs derive from; no person's.
    description, kernel
        Series description and convolution kernel.
    derived_from
        Licence text of the real series the lesions were put into; empty for phantoms.
    """

    patient: str
    study: str
    description: str
    kernel: str
    derived_from: str = ""


def write_series(folder: Path, hu: Volume, grid: Grid, text: SeriesText) -> list[Path]:
    """Write one CT series and return its files from inferior to superior.

    Parameters
    ----------
    folder : Path
        Made if absent.
    hu : float32 [Z, Y, X]
    grid : Grid
    text : SeriesText

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    study_uid = derive_uid("synthetic study", text.patient, text.study)
    series_uid = derive_uid(study_uid, "series", text.description)
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, plane in enumerate(hu):
            image = _image(plane, grid, index, text)
            image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, series_uid
            image.FrameOfReferenceUID = derive_uid(study_uid, "frame of reference")
            image.SOPInstanceUID = derive_uid(series_uid, "instance", str(index))
            files.append(_save(image, folder / f"{index + 1:04d}.dcm"))
    except OSError as error:
        raise OutputError(
            "COHORT_NOT_WRITTEN", f"{folder} could not be written: {os.strerror(error.errno or 0)}."
        ) from error
    return files


def _image(plane: Volume, grid: Grid, index: int, text: SeriesText) -> Dataset:
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 100"
    kind = ["DERIVED", "SECONDARY"] if text.derived_from else ["ORIGINAL", "PRIMARY"]
    image.ImageType = [*kind, "AXIAL"]
    image.SOPClassUID = CTImageStorage
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20200101"
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "120000"
    image.AccessionNumber = ""
    image.Modality = "CT"
    image.Manufacturer = "covid-ct-mask-net"
    image.ManufacturerModelName = "synthetic cohort"
    image.SoftwareVersions = __version__
    image.ReferringPhysicianName = ""
    image.StudyDescription = "SYNTHETIC CT CHEST"
    image.SeriesDescription = text.description
    image.PatientName = f"Synthetic^{text.patient}"
    image.PatientID = text.patient
    image.PatientBirthDate = image.PatientSex = ""
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = "Synthetic: no person's data"
    if text.derived_from:
        image.DerivationDescription = f"Synthetic lesions in {text.derived_from}"[:1024]
        image.DeidentificationMethod = "By the publisher of the real series"
    else:
        # Phantoms are adults; how old the person of a real series is, nobody says here.
        image.PatientAge = "050Y"
    image.BodyPartExamined = "CHEST"
    image.KVP = 120
    image.SliceThickness = _decimal(grid.spacing[0])
    image.SpacingBetweenSlices = _decimal(grid.spacing[0])
    image.ConvolutionKernel = text.kernel
    image.PatientPosition = "HFS"
    image.StudyID = "1"
    image.SeriesNumber, image.AcquisitionNumber, image.InstanceNumber = 1, 1, index + 1
    z, y, x = grid.origin
    image.ImagePositionPatient = [_decimal(x), _decimal(y), _decimal(z + index * grid.spacing[0])]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PositionReferenceIndicator = ""
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = plane.shape
    image.PixelSpacing = [_decimal(grid.spacing[1]), _decimal(grid.spacing[2])]
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.WindowCenter, image.WindowWidth = -600, 1500
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = _INTERCEPT, 1, "HU"
    image.PixelData = np.rint(plane - _INTERCEPT).clip(0, 4095).astype("<u2").tobytes()
    image["PixelData"].VR = "OW"
    return image


def _save(image: Dataset, path: Path) -> Path:
    file = FileDataset(str(path), image, preamble=b"\0" * 128)
    file.file_meta = FileMetaDataset()
    file.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    file.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.save_as(path, enforce_file_format=True)
    return path


def _decimal(value: float) -> str:
    """Return a number as a decimal string of at most 16 characters (PS3.5 6.2)."""
    return f"{value:.8g}"
