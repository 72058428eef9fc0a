"""What holds for any bytes: parsers answer or refuse, and never anything else.

Derandomized, so that a run of the suite is the same run everywhere; `many.py` and `atheris_files.py` look
further.
Requirements: REQ-REFUSE-1, REQ-LIMITS-1.
"""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from builders.fuzzing import dicom_seeds, nifti_seeds
from builders.mutations import REPRESENTATIONS, VALUES, elements
from covid_ct_mask_net.app import headers
from covid_ct_mask_net.app.codestreams import FrameHeader, jpeg_2000_frame_header, jpeg_frame_header
from covid_ct_mask_net.app.file_kinds import recognise
from covid_ct_mask_net.app.headers import FileRefusedError
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.nifti_file import check_nifti

SAME_EVERYWHERE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LIMITS = Limits(lossy=True)
# Elements with which a reader has something to go on: identifiers, pixels, geometry, texts, sequences.
TAGS = st.sampled_from(
    [0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00081140, 0x00100010, 0x0020000D, 0x00200013,
     0x00200032, 0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00281053, 0x52009229,
     0x52009230, 0x7FE00010]
)  # fmt: skip


@st.composite
def data_elements(draw: st.DrawFn, levels: int = 3) -> bytes:
    """One element of Explicit VR Little Endian; its length is sometimes a lie."""
    tag, vr = draw(TAGS), draw(st.sampled_from(REPRESENTATIONS))
    if vr == b"SQ" and levels:
        inner = b"".join(draw(st.lists(data_elements(levels - 1), max_size=3)))
        value = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner
    else:
        value = draw(st.sampled_from(VALUES) | st.binary(max_size=24))
    lies = draw(st.none() | st.integers(0, 0xFFFFFFFF))
    length = len(value) if lies is None else lies
    place = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"OL", b"OV", b"UC", b"UR", b"SV", b"UV"):
        return place + b"\0\0" + struct.pack("<I", length) + value
    return place + struct.pack("<H", length & 0xFFFF) + value


def preamble() -> bytes:
    content = dicom_seeds()["ExplicitVRLittleEndian"][0]
    return content[: 144 + int.from_bytes(content[140:144], "little")]


def check_refusal(refusal: FileRefusedError | RefusedInputError) -> None:
    assert refusal.code.replace("_", "").isalnum()
    assert len(refusal.sentence.split()) >= 4


def read_or_refused(content: bytes, folder: Path) -> Dataset | None:
    """Read a header as readers do, and ask for what the application asks for; None if it is refused."""
    path = folder / "file"
    path.write_bytes(content)
    try:
        with headers.quiet_pydicom():
            header = headers.read(path, LIMITS)
    except FileRefusedError as refusal:
        check_refusal(refusal)
        return None
    assert not [
        keyword for keyword in ("SOPInstanceUID", "StudyInstanceUID") if not headers.text(header, keyword)
    ]
    with headers.quiet_pydicom():
        for keyword in ("RescaleSlope", "InstanceNumber", "PatientName", "ImageType", "SpecificCharacterSet"):
            headers.number(header, keyword)
            headers.numbers(header, keyword, 3)
            headers.text(header, keyword)
            headers.items(header, keyword)
        for tag in list(header.keys()):
            headers.readable_element(header, tag)
    return header


@SAME_EVERYWHERE
@given(body=st.lists(data_elements(), max_size=12).map(b"".join))
def test_any_elements_behind_a_good_beginning(body: bytes, tmp_path: Path) -> None:
    read_or_refused(preamble() + body, tmp_path)


@SAME_EVERYWHERE
@given(content=st.binary(max_size=600), dicom=st.booleans())
def test_any_bytes(content: bytes, dicom: bool, tmp_path: Path) -> None:
    read_or_refused(bytes(128) + b"DICM" + content if dicom else content, tmp_path)
    assert recognise(content)[1] in ("NOT_DICOM", "NO_FILE_META", "ARCHIVE_NOT_ACCEPTED")


@SAME_EVERYWHERE
@given(which=st.integers(0, 10**6), value=st.sampled_from(VALUES) | st.binary(max_size=40))
def test_any_value_in_the_place_of_another(which: int, value: bytes, tmp_path: Path) -> None:
    content = bytearray(dicom_seeds()["ExplicitVRLittleEndian"][0])
    found = [element for element in elements(bytes(content)) if element.length_bytes == 2]
    element = found[which % len(found)]
    content[element.value : element.end] = value
    content[element.length_at : element.length_at + 2] = len(value).to_bytes(2, "little")
    read_or_refused(bytes(content), tmp_path)


@SAME_EVERYWHERE
@given(stream=st.binary(max_size=200), start=st.sampled_from([b"", b"\xff\xd8", b"\xff\x4f\xff\x51"]))
def test_any_code_stream_has_a_frame_header_or_none(stream: bytes, start: bytes) -> None:
    for found in (jpeg_frame_header(start + stream), jpeg_2000_frame_header(start + stream)):
        assert found is None or isinstance(found, FrameHeader)


@SAME_EVERYWHERE
@given(
    edits=st.lists(st.tuples(st.integers(0, 351), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
    volume=st.integers(0, 2),
    packed=st.booleans(),
)
def test_any_header_of_a_volume(
    edits: list[tuple[int, bytes]], volume: int, packed: bool, tmp_path: Path
) -> None:
    content = bytearray(nifti_seeds()[volume])
    for place, value in edits:
        content[place : place + len(value)] = value
    path = tmp_path / ("volume.nii.gz" if packed else "volume.nii")
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    try:
        check_nifti(path)
    except RefusedInputError as refusal:
        check_refusal(refusal)


@SAME_EVERYWHERE
@given(content=st.binary(max_size=1000), packed=st.booleans())
def test_any_bytes_are_no_volume(content: bytes, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("volume.nii.gz" if packed else "volume.nii")
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    with pytest.raises(RefusedInputError, match=r"\.$"):
        check_nifti(path)


def test_the_strategies_reach_behind_the_first_look() -> None:
    """Good elements are read: otherwise the properties above would hold of refusals only."""
    content = dicom_seeds()["ExplicitVRLittleEndian"][0]
    assert len(elements(content)) > 60
    dataset = headers.dcmread(io.BytesIO(preamble() + content[len(preamble()) :]))
    assert np.frombuffer(dataset.PixelData, "<i2").size == dataset.Rows * dataset.Columns
