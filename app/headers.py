"""Reading the header of one file that nobody vouches for.

``read`` either returns a dataset that has what the rest of the app relies on or raises
``FileRefusedError``; nothing else escapes for any content of the file. Pixels are not read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from covid_ct_mask_net.app import file_kinds
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.transfer_syntaxes import is_readable

ENHANCED_CT = frozenset({EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})
CT_IMAGES = ENHANCED_CT | {CTImageStorage}

_PIECE = 1 << 20
# Ahead of the bytes of a header: whether its file was deflated.
_PLAIN, _DEFLATED = b"P", b"D"
_UID_FORM = re.compile(r"[0-9]+(\.[0-9]+)+")
_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_PIXEL_DESCRIPTION = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
# What pydicom raises on damaged files, found by running it on them; each means that this file is unreadable.
DAMAGE = (
    InvalidDicomError,
    BytesLengthException,
    NotImplementedError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    LookupError,
    # "inf" in an integer string, a decimal beyond all bounds.
    ArithmeticError,
    struct.error,
)


class FileRefusedError(Exception):
    """One file is refused; the rest of the study goes on.

    Parameters
    ----------
    code : str
        Reason code in capitals.
    sentence : str
        The reason in words, without file name or patient data.
    study_instance_uid : str, optional
        Study that the file says it belongs to, where it was read that far.
    """

    def __init__(self, code: str, sentence: str, study_instance_uid: str | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.study_instance_uid = study_instance_uid


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom silent: it quotes values and paths in warnings and logs, and they may name a patient.

    For the whole process while it lasts, so it belongs around a pool of threads and not into them.
    """
    with quieted("pydicom"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def quieted(name: str) -> Iterator[None]:
    """Keep the logger of a library silent while it handles what may name a patient."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def read(path: Path, limits: Limits) -> Dataset:
    """Return the header of a DICOM file, without pixels, checked.

    Parameters
    ----------
    path : Path
        A file; links, pipes and devices are refused.
    limits : Limits
        Bounds on size, nesting, inflation and image size.

    Returns
    -------
    Dataset
        With ``file_meta``, without values longer than ``value_bytes``.

    Raises
    ------
    FileRefusedError
        With the reason code; no content of the file makes anything else escape.
    """
    return parse(read_bytes(path, limits), limits)


def read_bytes(path: Path, limits: Limits) -> bytes:
    """Return the checked header of a DICOM file as bytes: a file that ends ahead of its pixels.

    What ``read`` does with an untrusted file, in a form that a process of its own can hand over.
    """
    with _refusing(limits):
        check_regular(path, limits)
        syntax = _check_beginning(path)
        if syntax == DeflatedExplicitVRLittleEndian:
            file: BinaryIO | DicomBytesIO = inflated_file(path, limits)
        else:
            file = path.open("rb")
        with file:
            dataset = dcmread(file, stop_before_pixels=True)
            length = file.tell()
            if syntax == DeflatedExplicitVRLittleEndian:
                dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
            try:
                _check_header(dataset, length, limits)
            except FileRefusedError as refusal:
                refusal.study_instance_uid = _study_of(dataset)
                raise
            file.seek(0)
            return (_DEFLATED if syntax == DeflatedExplicitVRLittleEndian else _PLAIN) + file.read(length)


def _check_header(dataset: Dataset, length: int, limits: Limits) -> None:
    _check_nesting(dataset, limits.nesting)
    check_identifiers(dataset)
    if is_ct_image(dataset):
        check_ct_image(dataset, limits)
    if length > limits.header_bytes:
        raise FileRefusedError(
            "FILE_SIZE",
            f"The header of the file has {length} bytes; at most {limits.header_bytes} are accepted "
            "(header_bytes).",
        )


def _study_of(header: Dataset) -> str | None:
    """Return the Study Instance UID of a header that is refused, or None if there is no such UID."""
    value = "\\".join(text(header, "StudyInstanceUID"))
    return value if is_uid(value) else None


def is_uid(value: str) -> bool:
    """Tell whether a text has the form of a UID (PS3.5 section 9.1)."""
    return len(value) <= 64 and _UID_FORM.fullmatch(value) is not None


def parse(header: bytes, limits: Limits) -> Dataset:
    """Return the dataset of a header from ``read_bytes``; long values are left out, sequences are not."""
    with _refusing(limits):
        dataset = dcmread(DicomBytesIO(header[1:]), stop_before_pixels=True)
        if header[:1] == _DEFLATED:
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        for tag in list(dataset.keys()):
            value = dataset.get_item(tag).value
            long = isinstance(value, bytes) and len(value) > limits.value_bytes
            if long and not _is_read_sequence(dataset, tag):
                del dataset[tag]
        return dataset


@contextlib.contextmanager
def _refusing(limits: Limits) -> Iterator[None]:
    """Turn whatever a damaged file makes of the parser into a refusal."""
    try:
        yield
    except OSError as error:
        # pydicom raises some of its own, which the system knows nothing of.
        if error.errno is None:
            raise _damaged(error) from error
        raise FileRefusedError(
            "UNREADABLE", f"The file cannot be read ({error.strerror}); check that it is there and readable."
        ) from error
    except RecursionError as error:
        raise FileRefusedError(
            "NESTING",
            f"The file nests sequences too deeply to read; {limits.nesting} levels are read (nesting).",
        ) from error
    except MemoryError as error:
        raise FileRefusedError(
            "READ_MEMORY",
            f"Reading the file takes more than {limits.read_memory_bytes} bytes (read_memory_bytes).",
        ) from error
    except DAMAGE as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> FileRefusedError:
    return FileRefusedError(
        "NOT_DICOM",
        f"The file begins as DICOM but its data elements cannot be read ({type(error).__name__}).",
    )


def check_regular(path: Path, limits: Limits) -> os.stat_result:
    """Return the status of a regular file within the size limit; links are not followed."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise FileRefusedError(
            "NOT_REGULAR_FILE", "The entry is a link, a pipe or a device; only regular files are read."
        )
    if status.st_size > limits.file_bytes:
        raise FileRefusedError(
            "FILE_SIZE",
            f"The file has {status.st_size} bytes; at most {limits.file_bytes} are accepted (file_bytes).",
        )
    return status


def inflated(path: Path, limits: Limits) -> Dataset:
    """Read a file of the Deflated transfer syntax, pixels included."""
    dataset = dcmread(inflated_file(path, limits))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return dataset


def inflated_file(path: Path, limits: Limits) -> DicomBytesIO:
    """Inflate a file under a cap on what it may grow to (PS3.5 A.5); it then is Explicit VR Little Endian."""
    meta = read_file_meta_info(path)
    begin = 132 + 12 + int(meta.FileMetaInformationGroupLength)
    cap = min(limits.inflate_bytes, max(1, path.stat().st_size - begin) * limits.inflate_ratio)
    # Counted before any of it is kept: a file within the limit is inflated twice, a bomb takes no memory.
    length = 0
    for piece in _inflated_pieces(path, begin):
        length += len(piece)
        if length > cap:
            raise FileRefusedError(
                "TRANSFER_SYNTAX",
                f"The deflated data set exceeds {cap} bytes (inflate_ratio, inflate_bytes), so it was not "
                "read.",
            )
    # pydicom would inflate again, without a cap: it is shown the same data set as Explicit VR Little Endian.
    plain = FileMetaDataset()
    plain.update(meta)
    plain.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = DicomBytesIO(b"\0" * 128 + b"DICM")
    buffer.seek(0, os.SEEK_END)
    write_file_meta_info(buffer, plain, enforce_standard=False)
    for piece in _inflated_pieces(path, begin):
        buffer.write(piece)
    buffer.seek(0)
    return buffer


def _inflated_pieces(path: Path, begin: int) -> Iterator[bytes]:
    """Yield what a file inflates to from a byte on, in pieces of a bounded size."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        file.seek(begin)
        try:
            while not inflater.eof and (compressed := inflater.unconsumed_tail or file.read(_PIECE)):
                yield inflater.decompress(compressed, _PIECE)
            yield inflater.flush()
        except zlib.error as error:
            raise FileRefusedError(
                "TRANSFER_SYNTAX", "The deflated data set is damaged and was not read."
            ) from error


def is_ct_image(header: Dataset) -> bool:
    """Tell whether the object is a CT image, single- or multi-frame, by its SOP class."""
    return header.get("SOPClassUID") in CT_IMAGES


def numbers(header: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return ``count`` finite numbers of an attribute, or None if it does not hold exactly those."""
    try:
        value = header.get(keyword)
        values = (value,) if isinstance(value, str | int | float) else tuple(value or ())
        result = tuple(float(item) for item in values)
    except DAMAGE:
        return None
    return result if len(result) == count and bool(np.all(np.isfinite(result))) else None


def number(header: Dataset, keyword: str) -> float | None:
    """Return one finite number of an attribute, or None."""
    values = numbers(header, keyword, 1)
    return None if values is None else values[0]


def text(header: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an attribute as stripped text, empty ones left out."""
    try:
        value = header.get(keyword)
    except DAMAGE:
        return ()
    if value is None:
        return ()
    values = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return tuple(stripped for item in values if (stripped := str(item).strip()))


def readable_element(header: Dataset, which: BaseTag | str) -> DataElement | None:
    """Return an element by tag or keyword; None if it is absent or its bytes are no value of its kind."""
    try:
        return header.get(Tag(which))
    except DAMAGE:
        return None


def items(header: Dataset, keyword: str) -> Sequence[Dataset]:
    """Return the items of a sequence; none if it is absent or something else stands in its place."""
    element = readable_element(header, keyword)
    return element.value if element is not None and isinstance(element.value, DicomSequence) else ()


def contrast_agents(header: Dataset) -> tuple[str, ...]:
    """Return what is said of contrast agents (PS3.3 C.7.6.4, C.7.6.4b); none if none was given.

    An image of one frame names them in a text, an Enhanced CT in the items of a sequence.
    """
    coded = items(header, "ContrastBolusAgentSequence")
    meanings = [" ".join(text(item, "CodeMeaning")) or "unnamed" for item in coded]
    return (*text(header, "ContrastBolusAgent"), *meanings)


def check_identifiers(header: Dataset) -> None:
    """Check that the UIDs which file an object are there and are UIDs (PS3.5 section 9.1)."""
    missing = [keyword for keyword in _IDENTIFIERS if not text(header, keyword)]
    if missing:
        raise FileRefusedError(
            "MISSING_ATTRIBUTE", f"The file lacks {', '.join(missing)}; it may be cut off. Send it again."
        )
    for keyword in _IDENTIFIERS:
        value = "\\".join(text(header, keyword))
        if not is_uid(value):
            raise FileRefusedError(
                "UID_INVALID",
                f"{keyword} is not a UID: numbers and dots, at most 64 characters, are expected.",
            )


def check_ct_image(header: Dataset, limits: Limits) -> None:
    """Check what a CT image must say about its pixels before any of them is read (PS3.3 C.7.6.3)."""
    missing = [keyword for keyword in _PIXEL_DESCRIPTION if not text(header, keyword)]
    if missing:
        raise FileRefusedError(
            "MISSING_ATTRIBUTE", f"The CT image lacks {', '.join(missing)}; it may be cut off. Send it again."
        )
    syntax = str(header.file_meta.TransferSyntaxUID)
    if not is_readable(syntax, limits.lossy, text(header, "LossyImageCompression") == ("01",)):
        raise FileRefusedError(
            "TRANSFER_SYNTAX",
            f"The pixels are stored as {syntax} ({_syntax_name(syntax)}), which is not read"
            f"{'' if limits.lossy else ' (lossy ones only with the setting lossy)'}; send another form.",
        )
    for keyword in ("Rows", "Columns"):
        element = header[keyword]
        if element.VR != "US":
            raise FileRefusedError("DIMENSIONS_VR", f"{keyword} is stored as {element.VR}; US is expected.")
        side = number(header, keyword)
        if side is None or not limits.minimum_side <= side <= limits.maximum_side:
            raise FileRefusedError(
                "DIMENSIONS",
                f"{keyword} is {side:.0f}; {limits.minimum_side} to {limits.maximum_side} are accepted."
                if side is not None
                else f"{keyword} is not one number.",
            )
    _check_frames(header, limits)
    _check_bits(header)


def _check_frames(header: Dataset, limits: Limits) -> None:
    frames = number(header, "NumberOfFrames") if "NumberOfFrames" in header else 1.0
    most = limits.maximum_slices if header.SOPClassUID in ENHANCED_CT else 1
    if frames is None or not 1 <= frames <= most:
        raise FileRefusedError(
            "DIMENSIONS", f"NumberOfFrames is not between 1 and {most}, which this kind of object may have."
        )


def _check_bits(header: Dataset) -> None:
    allocated, stored, high, representation = (
        number(header, keyword)
        for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
    )
    fits = (
        allocated == 16
        and stored is not None
        and 8 <= stored <= 16
        and high == stored - 1
        and representation in (0, 1)
    )
    if not fits:
        raise FileRefusedError(
            "BIT_DEPTH",
            f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}, PixelRepresentation "
            f"{representation} do not fit a CT image: 16 allocated, 8 to 16 stored, HighBit one below.",
        )


def _check_beginning(path: Path) -> str:
    """Return the transfer syntax, after the file is known to be one DICOM object of a known syntax."""
    with path.open("rb") as file:
        beginning = file.read(512)
    if beginning[128:132] != b"DICM":
        kind, code = file_kinds.recognise(beginning)
        raise FileRefusedError(code, f"The file is not a DICOM file but {kind}; DICOM files are expected.")
    meta = read_file_meta_info(path)
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise FileRefusedError("DICOMDIR_IGNORED", "DICOMDIR is ignored; folders are searched instead.")
    syntax = meta.get("TransferSyntaxUID")
    if not syntax:
        raise FileRefusedError(
            "NO_FILE_META", "The file meta information names no transfer syntax (PS3.10 section 7.1)."
        )
    known = UID(syntax)
    if known.is_private or not known.is_transfer_syntax:
        raise FileRefusedError(
            "TRANSFER_SYNTAX", "The transfer syntax is private or unknown; send a standard one."
        )
    return str(syntax)


def _syntax_name(syntax: str) -> str:
    return UID(syntax).name if UID(syntax).is_transfer_syntax else "unknown"


def _check_nesting(dataset: Dataset, limit: int) -> None:
    """Refuse sequences nested deeper than ``limit``; visits what was read, not what was deferred."""
    level = [dataset]
    for _ in range(limit + 1):
        level = [
            item
            for parent in level
            for tag in list(parent.keys())
            if _is_read_sequence(parent, tag)
            for item in parent[tag].value
        ]
        if not level:
            return
    raise FileRefusedError("NESTING", f"Sequences are nested more than {limit} deep (nesting).")


def _is_read_sequence(dataset: Dataset, tag: BaseTag) -> bool:
    """Tell whether an element is a sequence whose items were read, without converting other elements."""
    raw = dataset.get_item(tag)
    if raw is None or raw.value is None:
        return False
    if raw.VR not in (None, "UN"):
        return bool(raw.VR == "SQ")
    # Implicit VR: the dictionary decides, as it will when the element is converted.
    return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ" and dataset[tag].VR == "SQ"
