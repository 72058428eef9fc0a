from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit

from builders.dicom import ct_dataset, make_ct_series, phantom_hu, write
from covid_ct_mask_net.app import headers
from covid_ct_mask_net.app.headers import FileRefusedError, read
from covid_ct_mask_net.app.limits import Limits

ONE = phantom_hu((1, 80, 64))


def refusal(path: Path, limits: Limits | None = None) -> FileRefusedError:
    with headers.quiet_pydicom(), pytest.raises(FileRefusedError) as caught:
        read(path, limits or Limits())
    return caught.value


def one(folder: Path, **defect: object) -> Path:
    return make_ct_series(folder, hu=ONE, **defect)[0]  # type: ignore[arg-type]


def changed(**values: object) -> Callable[[int, Dataset], None]:
    def edit(_: int, dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return edit


def test_a_header_is_read_without_pixels(tmp_path: Path) -> None:
    header = read(one(tmp_path, patient_name="Müller^A"), Limits())
    assert str(header.PatientName) == "Müller^A"
    assert "PixelData" not in header
    assert header.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize(
    ("defect", "code"),
    [
        ({"without": ["SOPInstanceUID"]}, "MISSING_ATTRIBUTE"),
        ({"without": ["Rows"]}, "MISSING_ATTRIBUTE"),
        ({"truncated_header": [0]}, "MISSING_ATTRIBUTE"),
        ({"edit": changed(StudyInstanceUID="1.2.x")}, "UID_INVALID"),
        ({"edit": changed(SeriesInstanceUID="../../etc/passwd")}, "UID_INVALID"),
        ({"edit": changed(SOPInstanceUID="1." + "2" * 70)}, "UID_INVALID"),
        ({"edit": changed(Rows=65535)}, "DIMENSIONS"),
        ({"edit": changed(Columns=0)}, "DIMENSIONS"),
        ({"edit": changed(NumberOfFrames=2_000_000_000)}, "DIMENSIONS"),
        ({"edit": lambda _, d: d.add_new("Rows", "UL", 80)}, "DIMENSIONS_VR"),
        ({"edit": changed(HighBit=11)}, "BIT_DEPTH"),
        ({"edit": changed(BitsStored=17)}, "BIT_DEPTH"),
        ({"edit": changed(BitsAllocated=8)}, "BIT_DEPTH"),
    ],
)  # fmt: skip
def test_what_a_ct_image_must_say(tmp_path: Path, defect: dict[str, object], code: str) -> None:
    error = refusal(one(tmp_path, **defect))
    assert error.code == code
    assert error.sentence.endswith(".")


@pytest.mark.parametrize(("depth", "fine"), [(32, True), (33, False), (400, False)])
def test_sequences_nest_up_to_the_limit(tmp_path: Path, depth: int, fine: bool) -> None:
    dataset = ct_dataset(ONE[0])
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.4", "1.2.5"
    path = write(dataset, tmp_path / "nested.dcm")
    element = b""
    # Written by hand: pydicom's writer gives up earlier than its reader.
    for _ in range(depth):
        item = b"\xfe\xff\x00\xe0" + len(element).to_bytes(4, "little") + element
        element = b"\x08\x00\x10\x11SQ\0\0" + len(item).to_bytes(4, "little") + item
    content = path.read_bytes()
    at = content.index(b"\x08\x00\x20\x00DA")
    path.write_bytes(
        content[:at] + content[at:].replace(b"\x10\x00\x10\x00PN", element + b"\x10\x00\x10\x00PN", 1)
    )
    if fine:
        assert read(path, Limits(value_bytes=1 << 20)).PatientName
    else:
        assert refusal(path, Limits(value_bytes=1 << 20)).code == "NESTING"


def test_links_pipes_and_large_files_are_refused(tmp_path: Path) -> None:
    file = one(tmp_path)
    (tmp_path / "link.dcm").symlink_to(file)
    os.mkfifo(tmp_path / "pipe.dcm")
    assert refusal(tmp_path / "link.dcm").code == "NOT_REGULAR_FILE"
    assert refusal(tmp_path / "pipe.dcm").code == "NOT_REGULAR_FILE"
    assert refusal(file, Limits(file_bytes=100)).code == "FILE_SIZE"
    assert refusal(tmp_path / "gone.dcm").code == "UNREADABLE"


def test_junk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "junk.dcm"
    for size in (0, 100, 131, 4096):
        path.write_bytes(np.random.default_rng(size).bytes(size))
        assert refusal(path).code in {"NOT_DICOM", "NO_FILE_META"}
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 500)
    assert refusal(path).code in {"NOT_DICOM", "NO_FILE_META"}


def test_a_data_set_without_meta_information_is_not_guessed_at(tmp_path: Path) -> None:
    path = one(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[content.index(b"\x08\x00\x05\x00CS") :])
    assert refusal(path).code == "NO_FILE_META"


def test_lossy_syntaxes_need_the_setting(tmp_path: Path) -> None:
    path = one(tmp_path)
    content = path.read_bytes()
    lossy = JPEGBaseline8Bit.encode().ljust(22, b"\0")
    path.write_bytes(content.replace(ExplicitVRLittleEndian.encode().ljust(20, b"\0"), lossy[:22], 1)
                     .replace(b"\x02\x00\x10\x00UI\x14\x00", b"\x02\x00\x10\x00UI\x16\x00", 1))  # fmt: skip
    assert refusal(path).code == "TRANSFER_SYNTAX"
    assert read(path, Limits(lossy=True)).Rows == 80


def test_deflated_files_are_read(tmp_path: Path) -> None:
    header = read(one(tmp_path, transfer_syntax=DeflatedExplicitVRLittleEndian), Limits())
    assert header.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    assert header.Rows == 80


def test_a_deflate_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    path = one(tmp_path, transfer_syntax=DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    start = 132 + 12 + int.from_bytes(content[140:144], "little")
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(content[:start] + squeezer.compress(b"\0" * 50_000_000) + squeezer.flush())
    error = refusal(path)
    assert error.code == "TRANSFER_SYNTAX"
    assert "inflate_ratio" in error.sentence


def test_every_cut_and_every_flipped_byte_ends_in_a_header_or_a_reason(tmp_path: Path) -> None:
    path = one(tmp_path)
    content = path.read_bytes()
    end = content.index(b"\xe0\x7f\x10\x00")
    random = np.random.default_rng(0)
    for trial in range(400):
        damaged = bytearray(content[: end + 200])
        if trial % 2:
            damaged[random.integers(132, end)] = random.integers(256)
        else:
            del damaged[random.integers(0, end) :]
        path.write_bytes(damaged)
        with headers.quiet_pydicom(), contextlib.suppress(FileRefusedError):
            read(path, Limits())


@pytest.mark.parametrize(
    ("value", "expected"),
    [([1, 2], (1.0, 2.0)), ([1], None), ([1, float("nan")], None), ("1\\2", None), (None, None)],
)
def test_numbers_are_finite_and_as_many_as_asked_for(value: object, expected: object) -> None:
    class Header(dict):  # type: ignore[type-arg]
        pass

    assert headers.numbers(Header(PixelSpacing=value), "PixelSpacing", 2) == expected  # type: ignore[arg-type]


def test_elements_that_cannot_be_read_are_none_and_absent_sequences_are_empty() -> None:
    header = Dataset()
    header.PatientID = "1"
    header.ReferencedImageSequence = [Dataset()]
    header[0x00200013] = RawDataElement(Tag(0x00200013), "IS", 4, b"inf ", 0, False, True)
    header[0x00200012] = RawDataElement(Tag(0x00200012), "Q_", 4, b"1234", 0, False, True)
    for unreadable in (Tag("InstanceNumber"), "AcquisitionNumber", "StudyID"):
        assert headers.readable_element(header, unreadable) is None
    assert headers.readable_element(header, "PatientID") == header["PatientID"]
    assert len(headers.items(header, "ReferencedImageSequence")) == 1
    assert headers.items(header, "PatientID") == headers.items(header, "ReferencedStudySequence") == ()
