"""Rows of the catalogue of bad inputs that fuzzing found: each ended the run, or was read by somebody else.

Requirements: REQ-REFUSE-1, REQ-REFUSE-2, REQ-GATE-3, REQ-PRIVACY-1.
"""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import MRImageStorage

from builders.command_line import ASSESSED, NOT_ASSESSED, Build, CommandLine, Expected
from builders.dicom import make_enhanced_ct
from builders.mutations import elements
from builders.oracle import SPACING, chest_with_lesions
from builders.planted import TOKEN, at, make_study, planted, values
from covid_ct_mask_net.app import chain
from covid_ct_mask_net.errors import ExitCode
from covid_ct_mask_net.nifti_file import LoadNiftid

AFFINE = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])


def spoilt(file: Path, tag: int, *, vr: bytes | None = None, value: bytes | None = None) -> None:
    """Change the representation or the value of one element of Explicit VR Little Endian, in place."""
    content = bytearray(file.read_bytes())
    start = content.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF), 300)
    if vr is not None:
        content[start + 4 : start + 6] = vr
    if value is not None:
        length = int.from_bytes(content[start + 6 : start + 8], "little")
        content[start + 6 : start + 8 + length] = len(value).to_bytes(2, "little") + value
    file.write_bytes(content)


def other_object(tag: int, vr: bytes) -> Build:
    """A chest CT, and beside it an MR one of whose elements cannot be read."""

    def build(folder: Path) -> None:
        make_study(folder)
        mr = make_study(
            folder / "mr",
            hu=chest_with_lesions()[:2],
            modality="MR",
            series_number=9,
            edit=values(SOPClassUID=MRImageStorage),
        )
        spoilt(mr[0], tag, vr=vr)

    return build


def infinite_integer(folder: Path) -> None:
    for file in make_study(folder):
        spoilt(file, 0x00200013, value=b"inf ")


def private_class(folder: Path) -> None:
    """As the raw data of some scanners: a SOP class that no table knows."""
    make_study(
        folder, hu=chest_with_lesions()[:2], modality="OT", edit=values(SOPClassUID="1.3.12.2.1107.5.9.1")
    )


def enhanced(tag: int, vr: bytes) -> Build:
    def build(folder: Path) -> None:
        path = make_enhanced_ct(
            folder,
            hu=chest_with_lesions(),
            spacing=SPACING,
            patient_id=f"{TOKEN}ID",
            edit=lambda dataset: planted()(0, dataset),
        )
        spoilt(path, tag, vr=vr)

    return build


def open_ended(folder: Path) -> None:
    """A sequence that the file ends in: pydicom raises an OSError that is none of the system's."""
    file = make_study(folder)[20]
    content = file.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    begin = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    file.write_bytes(content[:start] + begin + content[start:])


def unknown_pixels(folder: Path) -> None:
    """Pixel data of a representation that there is not: pydicom looks at it when it is asked for."""
    spoilt(make_study(folder)[20], 0x7FE00010, vr=b"ZZ")


def named_thickness(folder: Path) -> None:
    """The slice thickness is a number by its letters and a person's name by its representation."""
    for file in make_study(folder):
        spoilt(file, 0x00180050, vr=b"PN")


ROWS: dict[str, tuple[Build, Expected]] = {
    "F1-unknown-representation-in-another-object": (other_object(0x00080020, b"DE"), Expected(ASSESSED)),
    "F2-odd-bytes-in-another-object": (other_object(0x00200013, b"UL"), Expected(ASSESSED)),
    "F3-infinite-integer": (infinite_integer, Expected(ASSESSED)),
    "F4-private-class-alone": (private_class, Expected(NOT_ASSESSED, "NOT_CT")),
    "F5-no-slice-thickness": (
        lambda folder: make_study(folder, edit=values(SliceThickness=...)),
        Expected(ASSESSED),
    ),
    "F5-slice-thickness-empty-in-one": (
        lambda folder: make_study(folder, edit=at(9, values(SliceThickness=None))),
        Expected(ASSESSED),
    ),
    "F11-a-sequence-without-end": (
        open_ended,
        Expected(ASSESSED, None, {"NOT_DICOM": 1}, ["SLICE_GAP"]),
    ),
    "F12-unknown-representation-of-the-pixels": (
        unknown_pixels,
        Expected(ASSESSED, warnings=["PIXEL_LENGTH", "SLICE_GAP"]),
    ),
    "F13-a-number-as-a-person-s-name": (named_thickness, Expected(ASSESSED)),
    "F6-unknown-representation-in-an-enhanced-ct": (enhanced(0x00081090, b"L_"), Expected(ASSESSED)),
}


@pytest.mark.parametrize(("build", "expected"), ROWS.values(), ids=ROWS)
def test_row(triage: CommandLine, build: Build, expected: Expected) -> None:
    build(triage.inputs)
    outcome = triage.expect(expected)
    folder = outcome.output / outcome.result["pseudonym"]
    assert (folder / "sr.dcm").is_file()
    assert "(None)" not in outcome.stderr
    if build is private_class:
        (study,) = pydicom.dcmread(folder / "sr.dcm").CurrentRequestedProcedureEvidenceSequence
        found = [
            one.ReferencedSOPClassUID
            for s in study.ReferencedSeriesSequence
            for one in s.ReferencedSOPSequence
        ]
        assert set(found) == {"1.3.12.2.1107.5.9.1"}
    if expected.code is ASSESSED:
        assert outcome.result["triage"]["predicted_class"] == "COVID-19"
        assert (folder / "seg.dcm").is_file()


def volume(path: Path, place: int, form: str, *numbers: float) -> None:
    """A good volume with one change in its header."""
    image = nibabel.Nifti1Image(chest_with_lesions().transpose(2, 1, 0).astype(np.int16), AFFINE)
    content = bytearray(image.to_bytes())
    struct.pack_into(f"<{form}", content, place, *numbers)
    path.write_bytes(content)


@pytest.mark.parametrize(("place", "which"), [(252, "qform_code"), (254, "sform_code")])
@pytest.mark.parametrize("code", [6, 768, -1])
def test_row_f7_codes_that_nobody_knows(triage: CommandLine, place: int, which: str, code: int) -> None:
    """nibabel sets them to 0, and would have put the volume elsewhere than what was checked."""
    volume(triage.inputs / f"{TOKEN}.nii", place, "h", code)
    outcome = triage()
    assert (outcome.code, outcome.reasons()) == (ExitCode.REFUSED_INPUT, ["NIFTI_AFFINE"])
    assert which in outcome.result["reasons"][0]["sentence"]


def test_row_f8_a_qform_that_is_not_in_use_is_not_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """MONAI put it in the place of an sform that is off by rounding; failing that, ITK read the file.

    ITK places volumes in a way of its own, and printed the path of the file.
    """
    path = tmp_path / f"{TOKEN}.nii"
    volume(path, 252, "hh3f", 0, 2, 0.0, 0.0, 0.0)
    rounded = AFFINE.copy()
    rounded[0, 0] *= 1.001
    content = bytearray(path.read_bytes())
    struct.pack_into("<4f", content, 280, *rounded[0])
    path.write_bytes(content)
    np.testing.assert_allclose(LoadNiftid("volume")({"volume": path})["volume"].affine, rounded, rtol=1e-6)
    # A quaternion that is no rotation, which nobody needs.
    struct.pack_into("<3f", content, 256, 0.0, 3.0, 1.0)
    path.write_bytes(content)
    np.testing.assert_allclose(LoadNiftid("volume")({"volume": path})["volume"].affine, rounded, rtol=1e-6)
    assert capfd.readouterr() == ("", "")


def test_row_f9_what_nibabel_remarks_goes_through_the_filter(triage: CommandLine) -> None:
    """Its logger writes to standard error on its own."""
    own = logging.getLogger("nibabel.global")
    own.addHandler(logging.StreamHandler())
    # pixdim[0] is a sign, and of no importance where there is an sform.
    volume(triage.inputs / f"{TOKEN}.nii", 76, "f", 5.0)
    content = bytearray((triage.inputs / f"{TOKEN}.nii").read_bytes())
    struct.pack_into("<h", content, 252, 0)
    (triage.inputs / f"{TOKEN}.nii").write_bytes(content)
    outcome = triage()
    assert outcome.code == ExitCode.DONE
    assert own.handlers == []
    assert "qfac" not in outcome.stderr


def test_row_f10_a_report_that_cannot_be_made_costs_one_study(
    triage: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(triage.inputs / "a", patient_id=f"{TOKEN}A")
    make_study(triage.inputs / "b", patient_id=f"{TOKEN}B")
    write, calls = chain.dicom_results, []

    def broken(*arguments: object) -> dict[str, bytes]:
        calls.append(1)
        if len(calls) == 1:
            raise AttributeError(f"{TOKEN} has no such thing")
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(chain, "dicom_results", broken)
    outcome = triage()
    assert outcome.code == ExitCode.INTERNAL
    by_status = {result["status"]: result for result in outcome.results}
    assert set(by_status) == {"assessed", "failed"}
    failed = by_status["failed"]
    assert failed["reasons"][0]["code"] == "INTERNAL"
    assert [path.name for path in (outcome.output / failed["pseudonym"]).iterdir()] == ["result.json"]


def test_no_element_of_any_kind_ends_a_run(triage: CommandLine) -> None:
    """Each element of one slice in turn gets a representation that does not exist: 40 slices, 40 elements."""
    for number, file in enumerate(make_study(triage.inputs)):
        content = bytearray(file.read_bytes())
        found = [element for element in elements(bytes(content)) if element.start > 340][:-1]
        element = found[number * len(found) // 40]
        content[element.start + 4 : element.start + 6] = b"Q_"
        file.write_bytes(content)
    assert triage().code in (ExitCode.NOTHING_ASSESSABLE, ExitCode.REFUSED_INPUT)
