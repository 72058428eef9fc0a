"""Rows 1 to 19 of the catalogue of bad inputs: files and folders.

Requirements: REQ-REFUSE-1, REQ-REFUSE-2, REQ-PRIVACY-1, REQ-OUTPUT-1, REQ-LIMITS-1.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from builders.bombs import deflate_bomb
from builders.command_line import ASSESSED, NOT_ASSESSED, Build, CommandLine, Expected
from builders.planted import TOKEN, at, make_study, values
from builders.unreadable import deny_listing
from covid_ct_mask_net.errors import ExitCode


def junk(folder: Path) -> None:
    make_study(folder)
    (folder / "zero.dcm").touch()
    (folder / "short.dcm").write_bytes(bytes(range(100)))
    (folder / "random.dcm").write_bytes(np.random.default_rng(1).bytes(4096))


def no_file_meta(folder: Path) -> None:
    files = make_study(folder)
    dataset = pydicom.dcmread(files[20])
    for name, implicit in (("implicit", True), ("explicit", False)):
        with (folder / name).open("wb") as file:
            pydicom.filewriter.dcmwrite(
                file, Dataset(dataset), implicit_vr=implicit, little_endian=True, enforce_file_format=False
            )
    files[20].unlink()


def deep(levels: int) -> Sequence:
    """Sequences inside sequences, each of one item."""
    inner = Dataset()
    for _ in range(levels):
        outer = Dataset()
        outer.ReferencedImageSequence = Sequence([inner])
        inner = outer
    return Sequence([inner])


def nest(file: Path, levels: int) -> None:
    """Put sequences inside sequences before the first element of a file: pydicom cannot write as many."""
    begin = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    content = file.read_bytes()
    length = 132 + 12 + int.from_bytes(content[140:144], "little")
    file.write_bytes(content[:length] + begin * levels + end * levels + content[length:])


def nested(levels: int) -> Build:
    return lambda folder: nest(make_study(folder)[20], levels)


def bombed(folder: Path) -> None:
    """40 KB that would become 40 MB of one element behind a valid header."""
    deflate_bomb(make_study(folder)[20], 40)


def archives(folder: Path) -> None:
    files = make_study(folder)
    with zipfile.ZipFile(folder / "slip.zip", "w") as archive:
        archive.writestr("../../escaped.dcm", files[0].read_bytes())
    (folder / "bomb.zip").write_bytes(_zip_bomb())
    with tarfile.open(folder / "study.tar", "w") as archive:
        archive.add(files[0], "slice.dcm")
    (folder / "slice.dcm.gz").write_bytes(gzip.compress(files[0].read_bytes()))


def _zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10_000_000))
    return buffer.getvalue()


def special_files(folder: Path) -> None:
    make_study(folder)
    (folder / "passwd.dcm").symlink_to("/etc/passwd")
    (folder / "loop").symlink_to(folder)
    (folder / "dangling").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.dcm")


def odd_names(folder: Path) -> None:
    files = make_study(folder)
    names = ["-rf", "new\nline\x1b[31m", "ü中文", "n" * 255, ".hidden", "a b;c$(d)"]
    for file, name in zip(files, names, strict=False):
        file.rename(folder / name)


def dicomdir(folder: Path) -> None:
    make_study(folder)
    shutil.copy(pydicom.data.get_testdata_file("DICOMDIR"), folder / "DICOMDIR")
    content = (folder / "DICOMDIR").read_bytes().replace(b"77654033", b"../../et")
    (folder / "DICOMDIR").write_bytes(content)


def relabelled(syntax: str) -> Build:
    """One slice whose file meta names a transfer syntax that is not read."""

    def build(folder: Path) -> None:
        files = make_study(folder)
        dataset = pydicom.dcmread(files[20])
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8" + bytes(40)])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        pydicom.dcmwrite(files[20], dataset, enforce_file_format=True)

    return build


def corrupt_stream(syntax: str) -> Build:
    """One slice whose code stream is damaged: JPEG 2000 behind its frame header, RLE in its segments.

    Damage inside the arithmetic code of JPEG 2000 or JPEG-LS is seen by no decoder.
    """

    def build(folder: Path) -> None:
        files = make_study(folder, transfer_syntax=syntax)
        content = bytearray(files[20].read_bytes())
        place = content.rindex(b"\xff\x52") if syntax == JPEG2000Lossless else len(content) // 2
        noise = np.random.default_rng(2).bytes(30 if syntax == JPEG2000Lossless else 600)
        content[place : place + len(noise)] = noise
        files[20].write_bytes(content)

    return build


ROWS: dict[str, tuple[Build, Expected]] = {
    "2-empty": (lambda _: None, Expected(NOT_ASSESSED, "NO_FILES")),
    "4-junk": (junk, Expected(ASSESSED, refused={"NOT_DICOM": 3})),
    "5-no-file-meta": (no_file_meta, Expected(ASSESSED, None, {"NO_FILE_META": 2}, ["SLICE_GAP"])),
    "6-truncated-header": (
        lambda folder: make_study(folder, truncated_header=[20]),
        Expected(ASSESSED, None, {"MISSING_ATTRIBUTE": 1}, ["SLICE_GAP"]),
    ),
    "7-truncated-pixels": (
        lambda folder: make_study(folder, truncated_pixels=[20]),
        Expected(ASSESSED, warnings=["PIXEL_LENGTH", "SLICE_GAP"]),
    ),
    "7-many-truncated": (
        lambda folder: make_study(folder, truncated_pixels=range(12, 20)),
        Expected(NOT_ASSESSED, "PIXEL_LENGTH"),
    ),
    "8-surplus-pixels": (
        lambda folder: make_study(folder, edit=at(20, lambda _, d: setattr(d, "PixelData", d.PixelData * 2))),
        Expected(ASSESSED, warnings=["PIXEL_LENGTH"]),
    ),
    "8-rows-too-small": (
        lambda folder: make_study(folder, edit=values(Rows=64)),
        Expected(NOT_ASSESSED, "PIXEL_LENGTH"),
    ),
    "9-nesting-300": (nested(300), Expected(ASSESSED, None, {"NESTING": 1}, ["SLICE_GAP"])),
    "9-nesting-40": (nested(40), Expected(ASSESSED, None, {"NESTING": 1}, ["SLICE_GAP"])),
    "10-deflate-bomb": (bombed, Expected(ASSESSED, None, {"TRANSFER_SYNTAX": 1}, ["SLICE_GAP"])),
    "11-rows-65535": (
        lambda folder: make_study(folder, edit=at(20, values(Rows=65535))),
        Expected(ASSESSED, None, {"DIMENSIONS": 1}, ["SLICE_GAP"]),
    ),
    "11-rows-0": (
        lambda folder: make_study(folder, edit=at(20, values(Rows=0))),
        Expected(ASSESSED, None, {"DIMENSIONS": 1}, ["SLICE_GAP"]),
    ),
    "11-frames": (
        lambda folder: make_study(folder, edit=at(20, values(NumberOfFrames=2_000_000_000))),
        Expected(ASSESSED, None, {"DIMENSIONS": 1}, ["SLICE_GAP"]),
    ),
    "12-rows-as-UL": (
        lambda folder: make_study(folder, edit=at(20, lambda _, d: d.add_new("Rows", "UL", 96))),
        Expected(ASSESSED, None, {"DIMENSIONS_VR": 1}, ["SLICE_GAP"]),
    ),
    "13-archives": (archives, Expected(ASSESSED, refused={"ARCHIVE_NOT_ACCEPTED": 4})),
    "14-special-files": (special_files, Expected(ASSESSED, refused={"NOT_REGULAR_FILE": 4})),
    "15-odd-names": (odd_names, Expected(ASSESSED)),
    "16-dicomdir": (dicomdir, Expected(ASSESSED, refused={"DICOMDIR_IGNORED": 1})),
    **{
        f"17-{pydicom.uid.UID(uid).keyword}": (
            relabelled(uid),
            Expected(ASSESSED, None, {"TRANSFER_SYNTAX": 1}, ["SLICE_GAP"]),
        )
        for uid in (JPEGBaseline8Bit, HTJ2KLossless, MPEG2MPML, "1.2.840.113619.5.2")
    },
    **{
        f"18-corrupt-{pydicom.uid.UID(uid).keyword}": (
            corrupt_stream(uid),
            Expected(ASSESSED, warnings=["PIXEL_DECODE", "SLICE_GAP"]),
        )
        for uid in (JPEG2000Lossless, RLELossless)
    },
}


@pytest.mark.parametrize(("build", "expected"), ROWS.values(), ids=ROWS)
def test_row(triage: CommandLine, build: Build, expected: Expected) -> None:
    build(triage.inputs)
    outcome = triage.expect(expected)
    if expected.code is ASSESSED:
        assert outcome.result["triage"]["predicted_class"] == "COVID-19"


def test_row_1_input_missing(triage: CommandLine) -> None:
    gone = triage.folder / "gone"
    outcome = triage(inputs=[gone])
    assert outcome.code == ExitCode.USAGE
    assert "INPUT_MISSING" in outcome.stderr
    assert str(gone) in outcome.stderr
    assert not triage.output.exists()


def test_row_1_input_is_a_text_file(triage: CommandLine) -> None:
    (triage.inputs / "notes.txt").write_text(f"{TOKEN} " * 100)
    outcome = triage(inputs=[triage.inputs / "notes.txt"])
    assert outcome.code == NOT_ASSESSED
    assert outcome.reasons() == ["NO_DICOM"]


def test_row_3_only_other_files(triage: CommandLine) -> None:
    (triage.inputs / "report.pdf").write_bytes(b"%PDF-1.7\n" + bytes(400))
    (triage.inputs / "notes.txt").write_text(f"{TOKEN} " * 100)
    (triage.inputs / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(400))
    (triage.inputs / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(400))
    outcome = triage.expect(Expected(NOT_ASSESSED, "NO_DICOM", {"NOT_DICOM": 4}))
    assert "4 NOT_DICOM" in outcome.result["reasons"][0]["sentence"]


def test_row_14_a_folder_that_cannot_be_listed(triage: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(triage.inputs)
    (triage.inputs / f"{TOKEN}FOLDER").mkdir()
    deny_listing(monkeypatch, triage.inputs / f"{TOKEN}FOLDER")
    triage.expect(Expected(ASSESSED, refused={"UNREADABLE": 1}))
