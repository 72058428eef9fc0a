"""What a file that is no DICOM file seems to be, told from its first bytes."""

from __future__ import annotations

import re

_ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
}
_DOCUMENTS = {
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"BM": "a picture",
}
# The first element of a data set: group 0002, 0004 or 0008 in either byte order, an element below 0080.
_FIRST_ELEMENT = re.compile(
    rb"[\x02\x04\x08]\x00[\x00-\x7f]\x00|\x00[\x02\x04\x08]\x00[\x00-\x7f]", re.DOTALL
)


def recognise(beginning: bytes) -> tuple[str, str]:
    """Return a name for people and the reason code of a file by its first 512 bytes.

    The codes are ``ARCHIVE_NOT_ACCEPTED``, ``NO_FILE_META`` (a DICOM data set without preamble and file
    meta information, PS3.10 section 7.1) and ``NOT_DICOM``.
    """
    for magic, kind in _ARCHIVES.items():
        if beginning.startswith(magic):
            return kind, "ARCHIVE_NOT_ACCEPTED"
    if beginning[257:262] == b"ustar":
        return "a tar archive", "ARCHIVE_NOT_ACCEPTED"
    if _looks_like_data_set(beginning):
        return "a data set without preamble and file meta information", "NO_FILE_META"
    return _document(beginning), "NOT_DICOM"


def _looks_like_data_set(beginning: bytes) -> bool:
    if len(beginning) < 132 or not _FIRST_ELEMENT.match(beginning):
        return False
    explicit = re.fullmatch(rb"[A-Z]{2}", beginning[4:6]) is not None
    length = min(int.from_bytes(beginning[4:8], "little"), int.from_bytes(beginning[4:8], "big"))
    return explicit or length <= 256


def _document(beginning: bytes) -> str:
    if not beginning:
        return "an empty file"
    for magic, kind in _DOCUMENTS.items():
        if beginning.startswith(magic):
            return kind
    printable = sum(byte in b"\t\n\r" or 32 <= byte < 127 for byte in beginning)
    return "a text" if printable >= 0.95 * len(beginning) else "of unknown kind"
