"""Rows 39 to 59 of the catalogue of bad inputs: values of pixels and attributes.

Requirements: REQ-GATE-1, REQ-GATE-3, REQ-SAME-1, REQ-PRIVACY-1, REQ-PRIVACY-2.
"""

from __future__ import annotations

import json

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from builders.command_line import ASSESSED, NOT_ASSESSED, Build, CommandLine, Expected, Outcome
from builders.oracle import SPACING, chest_with_lesions
from builders.planted import TOKEN, at, every_text, make_study, planted, values
from covid_ct_mask_net.errors import ExitCode


def study(**defect: object) -> Build:
    return lambda folder: make_study(folder, **defect)


def edited(edit: object) -> Build:
    return lambda folder: make_study(folder, edit=edit)  # type: ignore[arg-type]


def slopes(k: int, dataset: Dataset) -> None:
    """A slope of its own for each slice, as some scanners have: the HU stay what they were."""
    slope = (0.5, 1.0, 2.0)[k % 3]
    stored = np.frombuffer(dataset.PixelData, "<i2").astype(float) / slope
    dataset.PixelData = np.rint(stored).astype("<i2").tobytes()
    dataset.RescaleSlope = slope


def padded(value: int, *, signed: bool) -> Build:
    """Padding outside the circle of reconstruction."""
    rows, columns = np.ogrid[:96, :96]
    outside = (rows - 47.5) ** 2 + (columns - 47.5) ** 2 > 47**2

    def edit(_: int, dataset: Dataset) -> None:
        dtype = "<i2" if signed else "<u2"
        pixels = np.frombuffer(dataset.PixelData, dtype).reshape(96, 96).copy()
        pixels[outside] = value
        dataset.PixelData = pixels.tobytes()

    return study(signed=signed, padding=value, edit=edit)


def blank(*places: int) -> Build:
    """Slices whose pixels are zeros, as of a transfer that was interrupted."""

    def edit(_: int, dataset: Dataset) -> None:
        dataset.PixelData = bytes(len(dataset.PixelData))

    return study(edit=at(places, edit))


def windowed(_: int, dataset: Dataset) -> None:
    hu = np.frombuffer(dataset.PixelData, "<i2").astype(float) - 1024
    dataset.PixelData = np.rint(np.clip((hu + 1350) / 1500, 0, 1) * 255).astype("<i2").tobytes()
    dataset.RescaleIntercept = 0


def floating_point(_: int, dataset: Dataset) -> None:
    """Pixels of which some are no number, in the attribute that holds such (PS3.3 C.7.6.24)."""
    pixels = np.frombuffer(dataset.PixelData, "<i2").astype("<f4")
    pixels[::7] = np.nan
    del dataset.PixelData
    dataset.FloatPixelData = pixels.tobytes()


def cut_by_a_circle() -> np.ndarray:
    """A circle of reconstruction that is too small for the lungs."""
    hu = chest_with_lesions()
    rows, columns = np.ogrid[:96, :96]
    hu[:, (rows - 47.5) ** 2 + (columns - 47.5) ** 2 > 28**2] = -1024.0
    return hu


ROWS: dict[str, tuple[Build, Expected]] = {
    "39-slope-zero": (edited(values(RescaleSlope=0)), Expected(NOT_ASSESSED, "RESCALE")),
    "39-intercept-missing": (edited(values(RescaleIntercept=...)), Expected(NOT_ASSESSED, "RESCALE")),
    "39-slope-per-slice": (study(edit=slopes), Expected(ASSESSED)),
    "40-not-hounsfield": (edited(values(RescaleType="MGML")), Expected(NOT_ASSESSED, "NOT_HOUNSFIELD")),
    "41-padding-signed": (padded(-2000, signed=True), Expected(ASSESSED)),
    "41-padding-unsigned": (padded(63536, signed=False), Expected(ASSESSED)),
    "42-bits-stored-17": (
        edited(values(BitsStored=17)),
        Expected(NOT_ASSESSED, "NO_DICOM", {"BIT_DEPTH": 40}),
    ),
    "42-high-bit": (edited(values(HighBit=11)), Expected(NOT_ASSESSED, "NO_DICOM", {"BIT_DEPTH": 40})),
    "42-representation": (
        edited(at(20, values(PixelRepresentation=2))),
        Expected(ASSESSED, None, {"BIT_DEPTH": 1}, ["SLICE_GAP"]),
    ),
    "43-monochrome1": (
        edited(values(PhotometricInterpretation="MONOCHROME1")),
        Expected(NOT_ASSESSED, "PHOTOMETRIC"),
    ),
    "43-rgb": (
        edited(values(PhotometricInterpretation="RGB", SamplesPerPixel=3)),
        Expected(NOT_ASSESSED, "PHOTOMETRIC"),
    ),
    "43-palette": (
        edited(values(PhotometricInterpretation="PALETTE COLOR")),
        Expected(NOT_ASSESSED, "PHOTOMETRIC"),
    ),
    "44-constant": (study(hu=np.full((40, 96, 96), 30.0)), Expected(NOT_ASSESSED, "NO_CONTENT")),
    "44-all-air": (
        study(hu=-1000 + np.random.default_rng(1).normal(0, 5, (40, 96, 96))),
        Expected(NOT_ASSESSED, "NOT_HOUNSFIELD_RANGE"),
    ),
    "44-all-zero": (
        study(hu=np.zeros((40, 96, 96)), intercept=0.0),
        Expected(NOT_ASSESSED, "NO_CONTENT"),
    ),
    **{
        f"74-{name}": (blank(*places), Expected(ASSESSED, warnings=["PIXEL_CONSTANT", *also]))
        for name, places, also in (
            ("one-in-the-middle", (20,), ["SLICE_GAP"]),
            ("two-in-the-middle", (20, 21), ["SLICE_GAP"]),
            ("the-lowest", (0,), []),
            ("two-at-each-end", (0, 1, 38, 39), []),
        )
    },
    **{
        f"74-{name}": (blank(*places), Expected(NOT_ASSESSED, "PIXEL_CONSTANT"))
        for name, places in (
            ("many-in-the-middle", tuple(range(18, 23))),
            ("many-at-one-end", tuple(range(5))),
            ("every-fourth", tuple(range(2, 40, 4))),
        )
    },
    "45-slope-not-a-number": (edited(values(RescaleSlope="nan")), Expected(NOT_ASSESSED, "RESCALE")),
    "45-floating-point-pixels": (study(edit=floating_point), Expected(NOT_ASSESSED, "PIXEL_LENGTH")),
    "46-windowed": (study(edit=windowed), Expected(NOT_ASSESSED, "NOT_HOUNSFIELD_RANGE")),
    "47-upper-half": (study(hu=chest_with_lesions()[20:]), Expected(NOT_ASSESSED, "LUNG_TRUNCATED")),
    "47-lower-half": (study(hu=chest_with_lesions()[:20]), Expected(NOT_ASSESSED, "LUNG_TRUNCATED")),
    "47-one-side": (
        study(
            hu=chest_with_lesions()[:, :, :48].repeat(2, axis=1).repeat(2, axis=2), spacing=(5.0, 1.75, 1.75)
        ),
        Expected(NOT_ASSESSED, "LUNG_TRUNCATED"),
    ),
    "47-cut-at-the-side": (
        study(hu=chest_with_lesions()[:, :, 30:]),
        Expected(NOT_ASSESSED, "LUNG_TRUNCATED"),
    ),
    "47-circle": (study(hu=cut_by_a_circle()), Expected(NOT_ASSESSED, "LUNG_TRUNCATED")),
    "49-child": (edited(values(PatientAge="009Y")), Expected(NOT_ASSESSED, "AGE_OUT_OF_RANGE")),
    "49-newborn": (edited(values(PatientAge="000D")), Expected(NOT_ASSESSED, "AGE_OUT_OF_RANGE")),
    "49-age-from-dates": (
        edited(values(PatientAge=..., PatientBirthDate="20100101", StudyDate="20200315")),
        Expected(NOT_ASSESSED, "AGE_OUT_OF_RANGE"),
    ),
    "49-unknown-age": (
        edited(values(PatientAge=..., PatientBirthDate=...)),
        Expected(ASSESSED, warnings=["AGE_UNKNOWN"]),
    ),
    "50-contrast": (
        edited(values(ContrastBolusAgent=f"{TOKEN} IOHEXOL")),
        Expected(ASSESSED, warnings=["CONTRAST_AGENT"]),
    ),
    "57-injection": (
        edited(
            values(
                PatientName=f"{TOKEN}<script>alert(1)</script>",
                SeriesDescription=f"{TOKEN}\x1b[31m\nERROR forged",
                Modality="CT",
                Manufacturer="<img src=x onerror=alert(1)>",
                ConvolutionKernel="<b>\nFORGED",
            )
        ),
        Expected(ASSESSED),
    ),
    "58-uid-letters": (
        edited(at(20, values(SOPInstanceUID="1.2.abc"))),
        Expected(ASSESSED, None, {"UID_INVALID": 1}, ["SLICE_GAP"]),
    ),
    "58-uid-too-long": (
        edited(at(20, values(SOPInstanceUID="1." + "2" * 70))),
        Expected(ASSESSED, None, {"UID_INVALID": 1}, ["SLICE_GAP"]),
    ),
    "58-uid-path": (
        edited(at(20, values(SeriesInstanceUID="../../../tmp/escaped"))),
        Expected(ASSESSED, None, {"UID_INVALID": 1}, ["SLICE_GAP"]),
    ),
    "59-dummy-dates": (
        edited(
            values(
                StudyDate="19000101",
                SeriesDate="19000101",
                PatientBirthDate="19000101",
                PatientName="Anonymous",
                PatientIdentityRemoved="YES",
                PatientAge=...,
            )
        ),
        Expected(ASSESSED, warnings=["AGE_UNKNOWN"]),
    ),
}


@pytest.mark.parametrize(("build", "expected"), ROWS.values(), ids=ROWS)
def test_row(triage: CommandLine, build: Build, expected: Expected) -> None:
    build(triage.inputs)
    outcome = triage.expect(expected)
    if expected.code is ASSESSED:
        assert outcome.result["triage"]["predicted_class"] == "COVID-19"
    if outcome.result["status"] != "refused" and expected.reason != "NO_DICOM":
        assert report(outcome).Modality == "SR"


def report(outcome: Outcome) -> pydicom.FileDataset:
    return pydicom.dcmread(outcome.output / outcome.result["pseudonym"] / "sr.dcm")


@pytest.mark.parametrize(
    ("slices", "spacing_mm", "kernel"),
    [(10, 0.5, "LUNG"), (1, 5.0, "LUNG"), (1, 5.0, "STANDARD")],
    ids=["0.5 mm", "5 mm", "5 mm soft"],
)
def test_row_51_reconstructions_are_assessed(
    triage: CommandLine, slices: int, spacing_mm: float, kernel: str
) -> None:
    hu = chest_with_lesions().repeat(slices, axis=0)
    make_study(triage.inputs, hu=hu, spacing=(spacing_mm, 3.5, 3.5), kernel=kernel)
    outcome = triage()
    assert outcome.result["triage"]["predicted_class"] == "COVID-19"


def test_row_51_slices_of_10_mm_are_out_of_the_trained_range(triage: CommandLine) -> None:
    make_study(triage.inputs, hu=chest_with_lesions(), spacing=(10.0, 3.5, 3.5))
    outcome = triage.expect(Expected(ASSESSED, warnings=["OUT_OF_TRAINING_RANGE", "THICK_SLICES"]))
    assert outcome.result["triage"]["predicted_class"] == "COVID-19"


def test_row_51_a_matrix_of_1024(triage: CommandLine) -> None:
    hu = chest_with_lesions()[::2].repeat(10, axis=1).repeat(10, axis=2)
    hu = np.pad(hu, ((0, 0), (32, 32), (32, 32)), constant_values=-1000.0)
    make_study(triage.inputs, hu=hu, spacing=(8.0, 0.35, 0.35))
    assert triage.expect(Expected(ASSESSED)).result["geometry"]["shape"] == [1024, 1024, 20]


def test_row_41_padding_is_air(triage: CommandLine) -> None:
    padded(63536, signed=False)(triage.inputs)
    with_padding = triage().result
    for file in triage.inputs.iterdir():
        file.unlink()
    make_study(triage.inputs)
    without = triage().result
    assert with_padding["lesions"] == without["lesions"]
    assert with_padding["involvement"] == without["involvement"]


@pytest.mark.parametrize("position", ["HFS", "FFS", "HFP", "FFP", "HFDL"])
def test_row_52_the_position_label_changes_nothing(triage: CommandLine, position: str) -> None:
    """Geometry comes from orientation and position alone; the label is text."""
    make_study(triage.inputs, patient_position=position)
    sides = {lesion["lesion_class"]: lesion["side"] for lesion in triage().result["lesions"]}
    assert sides == {"Ground-glass opacity": "right", "Consolidation": "left"}


def test_row_52_a_mirrored_series_keeps_left_and_right(triage: CommandLine) -> None:
    make_study(
        triage.inputs,
        hu=np.ascontiguousarray(chest_with_lesions()[:, :, ::-1]),
        orientation=(-1, 0, 0, 0, 1, 0),
        step=(0, 0, 5),
        origin=(-80 + 95 * 3.5, -80.0, -50.0),
    )
    sides = {lesion["lesion_class"]: lesion["side"] for lesion in triage().result["lesions"]}
    assert sides == {"Ground-glass opacity": "right", "Consolidation": "left"}


def test_row_53_any_order_gives_the_same_bytes(triage: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    found = []
    for order, shuffle in (("first", False), ("second", True)):
        folder = triage.inputs / order
        make_study(folder, shuffle=shuffle, edit=values(InstanceNumber=1))
        outcome = triage(inputs=[folder])
        study_folder = outcome.output / outcome.result["pseudonym"]
        found.append({path.name: path.read_bytes() for path in study_folder.iterdir()})
    assert found[0] == found[1]


def test_row_54_a_file_that_changes_or_goes_during_the_run(
    triage: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from covid_ct_mask_net.app import intake

    files = make_study(triage.inputs)
    scan = intake.scan

    def copied_on(*arguments: object, **options: object) -> intake.Intake:
        found = scan(*arguments, **options)  # type: ignore[arg-type]
        with files[20].open("ab") as file:
            file.write(bytes(100))
        files[30].unlink()
        return found

    monkeypatch.setattr(intake, "scan", copied_on)
    monkeypatch.setattr("builders.command_line.tree", lambda *_: {})
    outcome = triage()
    assert outcome.code == ASSESSED
    assert {"CHANGED_DURING_READ", "SLICE_GAP"} <= set(outcome.warnings())


NAMES = {
    "gb18030": ("GB18030", f"{TOKEN}Wang^XiaoDong=王^小东"),
    "utf8": ("ISO_IR 192", f"{TOKEN}Wang^XiaoDong=王^小東"),
    "latin1": ("ISO_IR 100", f"{TOKEN}Müller^Ångström"),
    "cyrillic": ("ISO_IR 144", f"{TOKEN}Люкceмбypг"),
    "japanese": (["", "ISO 2022 IR 87"], f"{TOKEN}Yamada^Tarou=山田^太郎"),
}


@pytest.mark.parametrize(("charset", "name"), NAMES.values(), ids=NAMES)
def test_row_55_names_keep_their_letters(triage: CommandLine, charset: str, name: str) -> None:
    make_study(triage.inputs, charset=charset, patient_name=name)
    assert str(report(triage()).PatientName) == name


def test_row_55_a_name_of_unknown_charset_is_left_empty(triage: CommandLine) -> None:
    files = make_study(triage.inputs, charset="ISO_IR 100")
    for file in files:
        file.write_bytes(file.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999"))
    outcome = triage()
    assert "ATTRIBUTE_INVALID" in outcome.warnings()
    assert str(report(outcome).PatientName) == ""


def test_row_55_a_name_of_ten_kilobytes(triage: CommandLine) -> None:
    make_study(triage.inputs, edit=values(PatientName=TOKEN + "x" * 10_000))
    outcome = triage()
    assert outcome.code == ASSESSED
    assert "ATTRIBUTE_INVALID" in outcome.warnings()
    assert str(report(outcome).PatientName) == ""


def test_row_56_missing_and_wrong_attributes(triage: CommandLine) -> None:
    make_study(
        triage.inputs,
        edit=planted(
            values(
                PatientID=..., AccessionNumber=..., StudyID=..., PatientSex="f", PatientBirthDate="31/12/1960"
            )
        ),
    )  # fmt: skip
    before = {path.name: path.read_bytes() for path in triage.inputs.iterdir()}
    outcome = triage()
    sr = report(outcome)
    assert outcome.code == ASSESSED
    assert [
        sr[keyword].value or "" for keyword in ("PatientID", "AccessionNumber", "StudyID", "PatientSex")
    ] == [""] * 4
    assert "ATTRIBUTE_INVALID" in outcome.warnings()
    assert {path.name: path.read_bytes() for path in triage.inputs.iterdir()} == before


def test_row_57_no_control_characters_anywhere(triage: CommandLine) -> None:
    build, _ = ROWS["57-injection"]
    build(triage.inputs)
    outcome = triage()
    texts = [outcome.stdout, outcome.stderr]
    texts += [p.read_text() for p in outcome.output.rglob("*") if p.is_file() and p.suffix != ".dcm"]
    for text in texts:
        assert "\x1b" not in text
        assert "<script" not in text
        assert "onerror" not in text
        assert "FORGED" not in text.upper()


def test_row_48_noise_is_flagged(triage: CommandLine) -> None:
    noise = np.random.default_rng(3).normal(0, 220, (40, 96, 96))
    make_study(triage.inputs, hu=chest_with_lesions() + noise.astype(np.float32))
    outcome = triage()
    assert outcome.code in (ExitCode.DONE, ExitCode.NOTHING_ASSESSABLE)
    assert "NOISE" in outcome.warnings() + outcome.reasons()


def test_row_48_metal_is_flagged(triage: CommandLine) -> None:
    hu = chest_with_lesions()
    hu[:, 70:76, 46:52] = 3200.0
    make_study(triage.inputs, hu=hu)
    outcome = triage()
    assert outcome.code == ASSESSED
    assert "METAL" in outcome.warnings()


def test_results_name_no_raw_attribute(triage: CommandLine) -> None:
    """Free text of the source has no place in result.json: not even the series description."""
    make_study(triage.inputs, spacing=SPACING)
    text = json.dumps(triage().result)
    for forbidden in ("CHEST", "Builder", "1960", "ACC-1"):
        assert forbidden not in text


def test_no_attribute_that_holds_words_is_told(triage: CommandLine) -> None:
    """All of the dictionary in each slice, and all that is logged: no output names one (``check_safe``)."""
    make_study(triage.inputs, hu=chest_with_lesions()[::2], spacing=(10.0, 3.5, 3.5), edit=every_text)
    header = pydicom.dcmread(next(triage.inputs.iterdir()), stop_before_pixels=True)
    assert sum(TOKEN in str(element.value) for element in header if element.VR != "SQ") > 1500
    outcome = triage("--debug", "--log", "json")
    assert outcome.result["status"] == "assessed", outcome.stderr[-2000:]
