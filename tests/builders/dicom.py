"""DICOM studies made for tests: a valid chest-like CT, and the same with one defect at a time.

``make_ct_series`` writes a valid study; every keyword away from its default is one defect or one property.
What has no keyword is changed through ``edit``, which is given each dataset before it is written.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    XRayRadiationDoseSRStorage,
)

from covid_ct_mask_net.identifiers import derive_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
AIR_HU = -1000.0
MARKER_HU = 1500.0

Edit = Callable[[int, Dataset], None]


def phantom_hu(shape: tuple[int, int, int] = (20, 80, 64)) -> NDArray[np.float32]:
    """Return an asymmetric body in HU, shape (slices, rows, columns), for a head-first supine patient.

    Slices run to superior, rows to posterior, columns to the patient's left. The patient's right lung is
    the larger one, the spine lies posterior, and one bright marker stands left, anterior and superior.
    """
    slices, rows, columns = shape
    z, y, x = np.meshgrid(
        np.linspace(-1, 1, slices), np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij"
    )
    hu = np.full(shape, AIR_HU, dtype=np.float32)
    hu[(x / 0.85) ** 2 + (y / 0.7) ** 2 <= 1] = 40.0
    hu[((x + 0.4) / 0.3) ** 2 + ((y + 0.05) / 0.5) ** 2 + (z / 0.95) ** 2 <= 1] = -850.0
    hu[((x - 0.42) / 0.22) ** 2 + ((y + 0.05) / 0.42) ** 2 + (z / 0.8) ** 2 <= 1] = -800.0
    hu[(x / 0.1) ** 2 + ((y - 0.5) / 0.1) ** 2 <= 1] = 400.0
    hu[((x - 0.5) / 0.12) ** 2 + ((y + 0.5) / 0.12) ** 2 + ((z - 0.7) / 0.2) ** 2 <= 1] = MARKER_HU
    return hu


def make_ct_series(
    folder: Path,
    *,
    hu: NDArray | None = None,
    spacing: tuple[float, float, float] = (5.0, 2.0, 2.5),
    origin: tuple[float, float, float] = (-80.0, -80.0, -50.0),
    orientation: Sequence[float] = AXIAL,
    step: Sequence[float] | None = None,
    tilt_degrees: float = 0.0,
    positions: Sequence[Sequence[float]] | None = None,
    patient_id: str = "PATIENT-1",
    patient_name: str = "Müller^Ångström",
    charset: str = "ISO_IR 100",
    patient_position: str = "HFS",
    study_uid: str | None = None,
    series_uid: str | None = None,
    frame_of_reference_uid: str | None = None,
    series_number: int = 2,
    acquisition_number: int = 1,
    description: str = "CHEST LUNG",
    kernel: str = "LUNG",
    thickness: float | None = None,
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "AXIAL"),
    modality: str = "CT",
    manufacturer: str = "Builder",
    slope: float = 1.0,
    intercept: float = -1024.0,
    signed: bool = True,
    padding: int | None = None,
    transfer_syntax: str = ExplicitVRLittleEndian,
    missing_slices: Collection[int] = (),
    duplicated_slices: Collection[int] = (),
    truncated_header: Collection[int] = (),
    truncated_pixels: Collection[int] = (),
    without: Collection[str] = (),
    shuffle: bool = False,
    file_name: str = "{:04d}.dcm",
    edit: Edit | None = None,
) -> list[Path]:
    """Write one CT series and return its files in the order of the slices.

    Parameters
    ----------
    folder : Path
        Where to write; made if absent.
    hu : NDArray, optional
        Volume in HU, shape (slices, rows, columns); slice k lies at ``origin + k * step``. Default:
        ``phantom_hu()``.
    spacing : tuple of float
        Distances in mm between slices, rows and columns (PixelSpacing is rows, then columns).
    origin : tuple of float
        LPS position in mm of the first pixel of slice 0.
    orientation : sequence of float
        ImageOrientationPatient.
    step : sequence of float, optional
        LPS vector in mm from slice to slice; default: along the slice normal.
    tilt_degrees : float
        Gantry tilt: the image plane turns about the x axis, the table still moves along z.
    positions : sequence, optional
        ImagePositionPatient of each slice instead of ``origin`` and ``step``.
    transfer_syntax : str
        Any that is read; stored values must fit 8 or 12 bits for the lossy forms of JPEG.
    missing_slices, duplicated_slices, truncated_header, truncated_pixels : collection of int
        Slices left out; written twice under two SOP Instance UIDs; cut inside the header; cut inside the
        pixels.
    without : collection of str
        Keywords of attributes that are left out.
    shuffle : bool
        Give files and InstanceNumbers an order unrelated to the positions.
    edit : callable, optional
        ``edit(slice_index, dataset)`` changes a dataset before it is written.

    Returns
    -------
    list of Path
        The files, in the order of the slices; duplicates come last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    volume = phantom_hu() if hu is None else np.asarray(hu)
    study_uid = study_uid or derive_uid("study", patient_id)
    series_uid = series_uid or derive_uid("series", study_uid, str(series_number))
    plane = _tilted(tilt_degrees) if tilt_degrees else np.asarray(orientation, dtype=float)
    steps = np.asarray(step, dtype=float) if step is not None else spacing[0] * _normal(plane)
    if tilt_degrees and step is None:
        steps = np.array([0.0, 0.0, spacing[0]])
    numbers = np.random.default_rng(7).permutation(len(volume)) if shuffle else np.arange(len(volume))

    files: list[Path] = []
    written = [k for k in range(len(volume)) if k not in missing_slices]
    for copy, k in [(0, k) for k in written] + [(1, k) for k in duplicated_slices]:
        dataset = ct_dataset(volume[k], slope=slope, intercept=intercept, signed=signed)
        dataset.SpecificCharacterSet = charset
        dataset.PatientName = patient_name
        dataset.PatientID = patient_id
        dataset.PatientPosition = patient_position
        dataset.StudyInstanceUID = study_uid
        dataset.SeriesInstanceUID = series_uid
        dataset.SOPInstanceUID = derive_uid(
            "instance", series_uid, str(acquisition_number), str(k), str(copy)
        )
        dataset.FrameOfReferenceUID = frame_of_reference_uid or derive_uid("frame", study_uid)
        dataset.SeriesNumber = series_number
        dataset.AcquisitionNumber = acquisition_number
        dataset.InstanceNumber = int(numbers[k]) + 1
        dataset.SeriesDescription = description
        dataset.ConvolutionKernel = kernel
        dataset.ImageType = list(image_type)
        dataset.Modality = modality
        dataset.Manufacturer = manufacturer
        dataset.SliceThickness = spacing[0] if thickness is None else thickness
        dataset.PixelSpacing = [spacing[1], spacing[2]]
        dataset.ImageOrientationPatient = [_decimal(value) for value in plane]
        position = np.asarray(origin) + k * steps if positions is None else positions[k]
        dataset.ImagePositionPatient = [_decimal(value) for value in position]
        if tilt_degrees:
            dataset.GantryDetectorTilt = tilt_degrees
        if padding is not None:
            dataset.add_new("PixelPaddingValue", "SS" if signed else "US", padding)
        if k in truncated_pixels:
            dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
        for keyword in without:
            if keyword in dataset:
                delattr(dataset, keyword)
        if edit is not None:
            with pydicom.config.disable_value_validation(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                edit(k, dataset)
        path = folder / (("copy-" if copy else "") + file_name.format(int(numbers[k])))
        write(dataset, path, transfer_syntax)
        if k in truncated_header:
            path.write_bytes(path.read_bytes()[:700])
        files.append(path)
    return files


def make_localizer(folder: Path, *, patient_id: str = "PATIENT-1", **properties: object) -> list[Path]:
    """Write a scout view (one coronal LOCALIZER image) of the same study, series number 1."""
    defaults: dict[str, object] = {
        "hu": phantom_hu((20, 80, 64)).max(axis=1)[None, ::-1].repeat(4, axis=1),
        "orientation": CORONAL,
        "series_number": 1,
        "description": "SCOUT",
        "image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER"),
        "file_name": "scout-{:02d}.dcm",
    }
    return make_ct_series(folder, patient_id=patient_id, **{**defaults, **properties})  # type: ignore[arg-type]


def make_dose_report(folder: Path, *, patient_id: str = "PATIENT-1") -> Path:
    """Write a radiation dose SR of the same study: an object without pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = _common(XRayRadiationDoseSRStorage)
    dataset.PatientID = patient_id
    dataset.StudyInstanceUID = derive_uid("study", patient_id)
    dataset.SeriesInstanceUID = derive_uid("dose series", patient_id)
    dataset.SOPInstanceUID = derive_uid("dose report", patient_id)
    dataset.Modality = "SR"
    path = folder / "dose.dcm"
    write(dataset, path)
    return path


def make_enhanced_ct(
    folder: Path,
    *,
    hu: NDArray | None = None,
    spacing: tuple[float, float, float] = (5.0, 2.0, 2.5),
    patient_id: str = "PATIENT-1",
    edit: Callable[[Dataset], None] | None = None,
) -> Path:
    """Write one Enhanced CT (multi-frame) with its geometry and rescale in the functional groups.

    Frames are stored from superior to inferior, so that reading them in file order is wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    volume = phantom_hu() if hu is None else np.asarray(hu)
    dataset = ct_dataset(volume[0])
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType", "PixelData"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = EnhancedCTImageStorage
    dataset.PatientID = patient_id
    dataset.PatientName = "Enhanced^Patient"
    dataset.StudyInstanceUID = derive_uid("study", patient_id)
    dataset.SeriesInstanceUID = derive_uid("enhanced series", patient_id)
    dataset.SOPInstanceUID = derive_uid("enhanced instance", patient_id)
    dataset.FrameOfReferenceUID = derive_uid("frame", dataset.StudyInstanceUID)
    dataset.SeriesNumber, dataset.InstanceNumber = 2, 1
    dataset.Manufacturer, dataset.PatientPosition = "Builder", "HFS"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.NumberOfFrames = len(volume)

    transformation, measures, plane, frame_type = Dataset(), Dataset(), Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = 2.0, -1024.0
    transformation.RescaleType = "HU"
    measures.PixelSpacing = [spacing[1], spacing[2]]
    measures.SliceThickness = spacing[0]
    plane.ImageOrientationPatient = list(AXIAL)
    frame_type.FrameType = dataset.ImageType
    shared = Dataset()
    shared.PixelValueTransformationSequence = DicomSequence([transformation])
    shared.PixelMeasuresSequence = DicomSequence([measures])
    shared.PlaneOrientationSequence = DicomSequence([plane])
    shared.CTImageFrameTypeSequence = DicomSequence([frame_type])
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    groups = []
    for k in reversed(range(len(volume))):
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [-80.0, -80.0, _decimal(-50.0 + k * spacing[0])]
        group.PlanePositionSequence = DicomSequence([position])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    dataset.PixelData = np.rint((volume[::-1] + 1024.0) / 2.0).astype("<i2").tobytes()
    if edit is not None:
        edit(dataset)
    path = folder / "enhanced.dcm"
    write(dataset, path)
    return path


def concatenated(
    whole: Path, *, frames: Sequence[int] = (7, 6, 7), total: bool = True, offsets: bool = True
) -> list[Path]:
    """Replace an Enhanced CT by the instances of a concatenation (PS3.3 C.7.6.16.2.2.4), in their order.

    Parameters
    ----------
    whole : Path
        From ``make_enhanced_ct``; removed.
    frames : sequence of int
        Frames of each part; together all that there are.
    total, offsets : bool
        Whether parts tell how many there are (Type 3), and at which frame they begin.

    Returns
    -------
    list of Path
        The parts, whose names and SOP Instance UIDs are in an order of their own.
    """
    files, begin = [], 0
    source = pydicom.dcmread(whole)
    size = 2 * source.Rows * source.Columns
    for number, count in enumerate(frames, start=1):
        part = pydicom.dcmread(whole)
        part.SOPInstanceUID = f"1.2.3.{9 - number}"
        part.ConcatenationUID = derive_uid("concatenation", str(source.SOPInstanceUID))
        part.SOPInstanceUIDOfConcatenationSource = source.SOPInstanceUID
        part.InConcatenationNumber = number
        if total:
            part.InConcatenationTotalNumber = len(frames)
        if offsets:
            part.ConcatenationFrameOffsetNumber = begin
        part.NumberOfFrames = count
        groups = source.PerFrameFunctionalGroupsSequence[begin : begin + count]
        part.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
        part.PixelData = source.PixelData[size * begin : size * (begin + count)]
        begin += count
        files.append(write(part, whole.with_name(f"part-{9 - number}.dcm")))
    whole.unlink()
    return files


def ct_dataset(
    hu: NDArray, *, slope: float = 1.0, intercept: float = -1024.0, signed: bool = True
) -> Dataset:
    """Return a CT Image without identifiers or geometry whose pixels are ``hu``, shape (rows, columns)."""
    dataset = _common(CTImageStorage)
    dataset.Rows, dataset.Columns = hu.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(signed)
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    dataset.RescaleType = "HU"
    stored = np.rint((np.asarray(hu, dtype=float) - intercept) / slope)
    bounds = np.iinfo(np.int16 if signed else np.uint16)
    dataset.PixelData = stored.clip(bounds.min, bounds.max).astype("<i2" if signed else "<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def write(dataset: Dataset, path: Path, transfer_syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write ``dataset`` as a DICOM file; invalid values are written as they are, they may be the defect."""
    syntax = pydicom.uid.UID(transfer_syntax)
    file = FileDataset(
        path,
        dataset,
        preamble=b"\0" * 128,
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
    )
    file.file_meta = FileMetaDataset()
    file.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    file.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    file.file_meta.TransferSyntaxUID = syntax
    native = {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    }
    if transfer_syntax == ExplicitVRBigEndian and "PixelData" in file:
        file.PixelData = np.frombuffer(file.PixelData, "<u2").astype(">u2").tobytes()
    elif transfer_syntax not in native:
        file.PixelData = encapsulate([_encode(file, transfer_syntax)])
        file["PixelData"].VR = "OB"
        file["PixelData"].is_undefined_length = True
    with pydicom.config.disable_value_validation():
        file.save_as(path, enforce_file_format=True)
    return path


def _encode(dataset: Dataset, transfer_syntax: str) -> bytes:
    """Return the code stream of one frame."""
    pixels = np.frombuffer(dataset.PixelData, "<i2" if dataset.PixelRepresentation else "<u2")
    pixels = pixels.reshape(dataset.Rows, dataset.Columns)
    if transfer_syntax == RLELossless:
        from pydicom.pixels.encoders import RLELosslessEncoder

        return RLELosslessEncoder.encode(
            pixels,
            rows=dataset.Rows,
            columns=dataset.Columns,
            samples_per_pixel=1,
            bits_allocated=16,
            bits_stored=16,
            pixel_representation=int(dataset.PixelRepresentation),
            photometric_interpretation="MONOCHROME2",
            number_of_frames=1,
        )
    encoders = {
        JPEGBaseline8Bit: lambda: imagecodecs.jpeg8_encode(pixels.astype("u1")),
        JPEGExtended12Bit: lambda: imagecodecs.jpeg8_encode(pixels.view("<u2"), bitspersample=12),
        JPEGLossless: lambda: imagecodecs.jpeg8_encode(
            pixels.view("<u2"), lossless=True, predictor=4, bitspersample=16
        ),
        JPEGLSNearLossless: lambda: imagecodecs.jpegls_encode(pixels.view("<u2"), level=2),
        JPEGLosslessSV1: lambda: imagecodecs.ljpeg_encode(pixels.view("<u2"), bitspersample=16),
        JPEGLSLossless: lambda: imagecodecs.jpegls_encode(pixels.view("<u2")),
        # Lossy or not: the syntax leaves it open, the attribute Lossy Image Compression says it.
        JPEG2000: lambda: imagecodecs.jpeg2k_encode(pixels, reversible=True, codecformat="j2k"),
        JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(pixels, reversible=True, codecformat="j2k"),
    }
    return bytes(encoders[pydicom.uid.UID(transfer_syntax)]())


def _common(sop_class: str) -> Dataset:
    """Return patient, study and equipment attributes that every object needs."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = sop_class
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = dataset.AcquisitionDate = "20200315"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = dataset.AcquisitionTime = "101500"
    dataset.AccessionNumber = "ACC-1"
    dataset.Modality = "CT"
    dataset.Manufacturer = "Builder"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "CT CHEST"
    dataset.PatientName = "Test^Patient"
    dataset.PatientID = "PATIENT-1"
    dataset.PatientBirthDate = "19600102"
    dataset.PatientSex = "F"
    dataset.PatientAge = "060Y"
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.BodyPartExamined = "CHEST"
    dataset.KVP = 120
    dataset.PositionReferenceIndicator = ""
    return dataset


def _tilted(degrees: float) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    return np.array([1.0, 0.0, 0.0, 0.0, np.cos(angle), -np.sin(angle)])


def _normal(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cross(plane[:3], plane[3:])


def _decimal(value: object) -> str | object:
    """Return a number as a decimal string of at most 16 characters; other values as they are."""
    return f"{value:.10g}"[:16] if isinstance(value, float | np.floating | int) else value
