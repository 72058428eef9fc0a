from __future__ import annotations

import pytest

from covid_ct_mask_net.app.file_kinds import recognise


@pytest.mark.parametrize(
    ("beginning", "code", "kind"),
    [
        (b"", "NOT_DICOM", "an empty file"),
        (b"hello radiology\n" * 20, "NOT_DICOM", "a text"),
        (b"%PDF-1.7" + b"\x80" * 200, "NOT_DICOM", "a PDF"),
        (b"\x89PNG" + b"\0" * 200, "NOT_DICOM", "a picture"),
        (bytes(range(200, 256)) * 5, "NOT_DICOM", "of unknown kind"),
        (b"PK\x03\x04" + b"\0" * 200, "ARCHIVE_NOT_ACCEPTED", "a zip archive"),
        (b"\x1f\x8b" + b"\0" * 200, "ARCHIVE_NOT_ACCEPTED", "a gzip archive"),
        (b"\0" * 257 + b"ustar" + b"\0" * 200, "ARCHIVE_NOT_ACCEPTED", "a tar archive"),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"\0" * 200, "NO_FILE_META", None),
        (b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100" + b"\0" * 200, "NO_FILE_META", None),
        (b"\x00\x08\x00\x05CS\x00\x0aISO_IR 100" + b"\0" * 200, "NO_FILE_META", None),
    ],
)
def test_first_bytes_tell_what_a_file_is(beginning: bytes, code: str, kind: str | None) -> None:
    found, reason = recognise(beginning)
    assert reason == code
    assert kind is None or found == kind
