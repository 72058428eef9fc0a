from __future__ import annotations

import dataclasses
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from builders.dicom import make_ct_series, phantom_hu
from covid_ct_mask_net.app import intake, pixels
from covid_ct_mask_net.app.headers import FileRefusedError, quiet_pydicom
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.errors import NotAssessableError

ONE = phantom_hu((1, 80, 64))
SYNTAXES = [
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
    RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless,
]  # fmt: skip
COMPRESSED = [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless]


def instances(folder: Path, limits: Limits | None = None) -> list[intake.Instance]:
    found = intake.scan([folder], limits)
    return [i for study in found.studies for series in study.series for i in series.instances]


def one(folder: Path, **properties: object) -> intake.Instance:
    make_ct_series(folder, hu=ONE, **properties)  # type: ignore[arg-type]
    (instance,) = instances(folder)
    return instance


def refusal(instance: intake.Instance) -> FileRefusedError:
    with quiet_pydicom(), pytest.raises(FileRefusedError) as caught:
        pixels.decode(instance)
    return caught.value


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_every_transfer_syntax_gives_the_same_pixels(tmp_path: Path, syntax: str, signed: bool) -> None:
    hu = pixels.decode(one(tmp_path, transfer_syntax=syntax, signed=signed))
    assert hu.dtype == np.float32
    np.testing.assert_array_equal(hu, ONE[0])


def test_slope_and_intercept_are_the_slices_own_and_may_be_fractions(tmp_path: Path) -> None:
    np.testing.assert_allclose(pixels.decode(one(tmp_path, slope=0.25, intercept=-1000.5)), ONE[0], atol=0.13)


@pytest.mark.parametrize("padding", [None, -2000])
def test_a_slice_of_one_value_shows_nothing(padding: int | None) -> None:
    header, stored = Dataset(), np.full((80, 64), 24, dtype=np.int16)
    header.BitsStored, header.PixelRepresentation = 16, 1
    if padding is not None:
        # Around the circle of reconstruction.
        header.add_new("PixelPaddingValue", "SS", padding)
        stored[:, :20] = padding
    with pytest.raises(FileRefusedError) as caught:
        pixels.check_content(stored, header)
    assert caught.value.code == "PIXEL_CONSTANT"
    stored[3, 30] = 25
    pixels.check_content(stored, header)


def test_a_slice_of_nothing_but_padding_shows_nothing(tmp_path: Path) -> None:
    hu = np.full((1, 80, 64), -1000.0)
    make_ct_series(tmp_path, hu=hu, padding=24)
    (instance,) = instances(tmp_path)
    assert refusal(instance).code == "PIXEL_CONSTANT"


@pytest.mark.parametrize(("written", "signed"), [(-2000, True), (63536, True), (63536, False)])
def test_padding_becomes_air_whatever_sign_it_was_written_with(
    tmp_path: Path, written: int, signed: bool
) -> None:
    hu = ONE.copy()
    hu[0, :5] = (-2000 if signed else 63536) - 1024.0

    def edit(_: int, dataset: Dataset) -> None:
        dataset.add_new("PixelPaddingValue", "SS" if written < 0 else "US", written)

    make_ct_series(tmp_path, hu=hu, signed=signed, edit=edit)
    decoded = pixels.decode(instances(tmp_path)[0])
    assert (decoded[:5] == pixels.AIR_HU).all()
    np.testing.assert_array_equal(decoded[5:], ONE[0, 5:])


def test_a_range_of_padding_values_becomes_air(tmp_path: Path) -> None:
    hu = ONE.copy()
    hu[0, 0, :3] = np.array([-2000.0, -1999.0, -1998.0]) - 1024

    def edit(_: int, dataset: Dataset) -> None:
        dataset.add_new("PixelPaddingRangeLimit", "SS", -1999)

    make_ct_series(tmp_path, hu=hu, padding=-2000, edit=edit)
    assert pixels.decode(instances(tmp_path)[0])[0, :3].tolist() == [-1024, -1024, -1998 - 1024]


def test_bits_above_those_stored_are_ignored(tmp_path: Path) -> None:
    stored = (ONE[0] + 1024).astype("<u2") | 0xF000

    def edit(_: int, dataset: Dataset) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelData = stored.tobytes()

    np.testing.assert_array_equal(pixels.decode(one(tmp_path, signed=False, edit=edit)), ONE[0])


@pytest.mark.parametrize("change", [-2, 2, 80 * 64 * 2])
def test_native_pixels_have_exactly_the_announced_length(tmp_path: Path, change: int) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.PixelData = (dataset.PixelData + b"\0" * max(change, 0))[: 80 * 64 * 2 + change]

    error = refusal(one(tmp_path, edit=edit))
    assert error.code == "PIXEL_LENGTH"
    assert str(80 * 64 * 2) in error.sentence


def test_a_file_cut_inside_the_pixels_is_refused(tmp_path: Path) -> None:
    for number, syntax in enumerate([ExplicitVRLittleEndian, *COMPRESSED]):
        path = make_ct_series(tmp_path / str(number), hu=ONE, transfer_syntax=syntax)[0]
        content = path.read_bytes()
        path.write_bytes(content[: content.index(b"\xe0\x7f\x10\x00") + 300])
        (instance,) = instances(tmp_path / str(number))
        assert refusal(instance).code in {"PIXEL_LENGTH", "PIXEL_DECODE"}


def test_a_file_without_pixels_is_refused(tmp_path: Path) -> None:
    assert refusal(one(tmp_path, without=["PixelData"])).code == "PIXEL_LENGTH"


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda syntax: syntax.name)
def test_a_damaged_code_stream_is_refused_or_decoded_to_the_announced_shape(
    tmp_path: Path, syntax: str
) -> None:
    path = make_ct_series(tmp_path, hu=ONE, transfer_syntax=syntax)[0]
    content = path.read_bytes()
    start = content.index(b"\xe0\x7f\x10\x00") + 20
    random = np.random.default_rng(1)
    refused = 0
    for _ in range(60):
        damaged = bytearray(content)
        for place in random.integers(start, len(content) - 8, 4):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        (instance,) = instances(tmp_path)
        try:
            assert pixels.decode(instance).shape == (80, 64)
        except FileRefusedError:
            refused += 1
    assert refused


def test_pixels_under_a_value_representation_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    (path,) = make_ct_series(tmp_path, hu=ONE, transfer_syntax=ExplicitVRLittleEndian)
    content = path.read_bytes()
    for known in (b"OW", b"OB"):
        content = content.replace(b"\xe0\x7f\x10\x00" + known, b"\xe0\x7f\x10\x00ZZ")
    path.write_bytes(content)
    (instance,) = instances(tmp_path)
    assert refusal(instance).code == "PIXEL_LENGTH"


@pytest.mark.parametrize(
    ("syntax", "stream"),
    [
        (JPEGLosslessSV1, imagecodecs.ljpeg_encode(np.zeros((3000, 64), np.uint16), bitspersample=16)),
        (JPEGLSLossless, imagecodecs.jpegls_encode(np.zeros((3000, 64), np.uint16))),
        (JPEG2000Lossless, imagecodecs.jpeg2k_encode(np.zeros((3000, 64), np.uint16), codecformat="j2k")),
        (JPEGLSLossless, imagecodecs.jpegls_encode(np.zeros((80, 64, 3), np.uint8))),
        (JPEGLosslessSV1, b"\xff\xd8 no frame header"),
    ],
)
def test_a_code_stream_of_another_size_never_reaches_its_decoder(
    monkeypatch: pytest.MonkeyPatch, syntax: str, stream: bytes
) -> None:
    def unreachable(*_: object) -> None:
        raise AssertionError("the decoder was called")

    monkeypatch.setattr(pixels, "_codec", unreachable)
    with pytest.raises(FileRefusedError, match="80 x 64") as caught:
        pixels.decode_codestream(bytes(stream), syntax, 80, 64)
    assert caught.value.code == "PIXEL_DECODE"


def test_jpeg_lossless_of_every_selection_value_is_read() -> None:
    image = (ONE[0] + 1024).astype(np.uint16)
    for predictor in range(1, 8):
        stream = imagecodecs.jpeg8_encode(image, lossless=True, predictor=predictor, bitspersample=16)
        np.testing.assert_array_equal(pixels.decode_codestream(bytes(stream), JPEGLossless, 80, 64), image)


def test_lossy_jpeg_2000_needs_the_setting_even_if_the_header_is_silent(tmp_path: Path) -> None:
    path = make_ct_series(tmp_path, hu=ONE, transfer_syntax=JPEG2000Lossless)[0]
    dataset = dcmread(path)
    stored = (ONE[0] + 1024).astype(np.int16)
    dataset.PixelData = encapsulate([bytes(imagecodecs.jpeg2k_encode(stored, level=60, codecformat="j2k"))])
    dataset.file_meta.TransferSyntaxUID = JPEG2000
    dataset.save_as(path)
    (instance,) = instances(tmp_path)
    assert refusal(instance).code == "TRANSFER_SYNTAX"
    assert np.median(np.abs(pixels.decode(instance, Limits(lossy=True)) - ONE[0])) < 50


def test_a_file_that_changes_or_goes_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    instance = one(tmp_path)
    assert refusal(dataclasses.replace(instance, modified=0)).code == "CHANGED_DURING_READ"
    with instance.path.open("ab") as file:
        file.write(b"\0\0")
    assert refusal(instance).code == "CHANGED_DURING_READ"
    instance.path.unlink()
    assert refusal(instance).code == "CHANGED_DURING_READ"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"RescaleSlope": 0}, "RESCALE"),
        ({"RescaleSlope": None}, "RESCALE"),
        ({"RescaleIntercept": None}, "RESCALE"),
        ({"RescaleType": "US"}, "NOT_HOUNSFIELD"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "PHOTOMETRIC"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "PHOTOMETRIC"),
    ],
)
def test_pixels_without_hounsfield_units_are_declined(
    tmp_path: Path, values: dict[str, object], code: str
) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    with pytest.raises(NotAssessableError) as caught:
        pixels.calibration(one(tmp_path, edit=edit).header)
    assert caught.value.code == code


def test_rescale_type_may_be_absent(tmp_path: Path) -> None:
    assert pixels.calibration(one(tmp_path, without=["RescaleType"]).header) == (1.0, -1024.0)


def test_real_slices_in_every_compression(shared_data: Path) -> None:
    limits = Limits(lossy=True)
    slices = {i.path.name: pixels.decode(i, limits) for i in instances(shared_data / "compressed-ct", limits)}
    for name in ("CT1_RLE", "CT1_JPLL", "CT1_JLSL", "CT1_J2KR"):
        np.testing.assert_array_equal(slices[name], slices["CT1_UNC"])
    # Padding is not padding any more after a lossy compression: compared where it never was.
    inside = slices["CT1_UNC"] > -900
    assert np.abs(slices["CT1_JLSN"] - slices["CT1_UNC"])[inside].max() <= 4
    assert np.abs(slices["CT1_J2KI"] - slices["CT1_UNC"])[inside].max() <= 352


def test_odd_real_slices_equal_itks(shared_data: Path) -> None:
    itk = pytest.importorskip("itk")
    for instance in instances(shared_data / "odd-dicom"):
        if "PixelPaddingValue" in instance.header or not hasattr(instance.header, "file_meta"):
            continue
        if "ELSCINT1" in instance.path.name:
            assert refusal(instance).code == "PIXEL_LENGTH"
            continue
        ours = pixels.decode(instance)
        np.testing.assert_array_equal(ours, itk.array_from_image(itk.imread(str(instance.path)))[0])
