"""Pixels of one slice in Hounsfield units, whatever the transfer syntax.

Decoders: pydicom and numpy for native pixels; imagecodecs (libjpeg-turbo, CharLS, OpenJPEG and its own RLE)
for code streams. It reads JPEG Lossless of every selection value, lets other threads run while it decodes
and is BSD-licensed.
"""

from __future__ import annotations

from collections.abc import Callable

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000, UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from covid_ct_mask_net.app import headers
from covid_ct_mask_net.app.codestreams import FrameHeader, jpeg_2000_frame_header, jpeg_frame_header
from covid_ct_mask_net.app.headers import FileRefusedError
from covid_ct_mask_net.app.intake import Instance
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.multi_frame import multi_frame
from covid_ct_mask_net.app.transfer_syntaxes import (
    JPEG_2000,
    JPEG_LOSSLESS,
    JPEG_LOSSY,
    JPEG_LS,
    NATIVE,
    RLE,
)
from covid_ct_mask_net.errors import NotAssessableError

AIR_HU = -1024.0

# EOI of JPEG and JPEG-LS, EOC of JPEG 2000.
_END_OF_STREAM = b"\xff\xd9"


def calibration(header: Dataset) -> tuple[float, float]:
    """Return rescale slope and intercept of an image whose pixels become Hounsfield units.

    Parameters
    ----------
    header : Dataset
        Header of one CT image (PS3.3 C.8.2.1) or of one frame.

    Raises
    ------
    NotAssessableError
        ``RESCALE`` if slope or intercept is missing or the slope is 0, ``NOT_HOUNSFIELD`` if Rescale Type
        names another unit, ``PHOTOMETRIC`` if larger values are not brighter or there are colours.
    """
    slope, intercept = headers.number(header, "RescaleSlope"), headers.number(header, "RescaleIntercept")
    if slope is None or intercept is None or slope == 0:
        raise NotAssessableError(
            "RESCALE",
            "Rescale Slope and Rescale Intercept are not two numbers with a slope other than 0; without them "
            "the pixels have no Hounsfield units, and nothing is guessed.",
        )
    unit = headers.text(header, "RescaleType")
    if unit not in ((), ("HU",)):
        raise NotAssessableError(
            "NOT_HOUNSFIELD", "Rescale Type is not HU; a CT in Hounsfield units is expected."
        )
    if headers.text(header, "PhotometricInterpretation") != ("MONOCHROME2",) or (
        headers.number(header, "SamplesPerPixel") != 1
    ):
        raise NotAssessableError(
            "PHOTOMETRIC",
            "The pixels are not MONOCHROME2 with one sample a pixel, as those of a CT image are.",
        )
    return slope, intercept


def decode(instance: Instance, limits: Limits | None = None, *, frame: int = 0) -> NDArray[np.float32]:
    """Return one slice in HU.

    Parameters
    ----------
    instance : Instance
        An accepted CT image; its file must be what it was when the header was read.
    limits : Limits, optional
        Bounds on the file and whether lossy images are read.
    frame : int
        Frame of a multi-frame image, from 0.

    Returns
    -------
    NDArray
        float32 HU, shape (rows, columns). Pixels that hold the padding value (PS3.3 C.7.5.1.1.2) are air,
        -1024 HU. Nothing else is clipped.

    Raises
    ------
    FileRefusedError
        ``CHANGED_DURING_READ``, ``PIXEL_LENGTH``, ``PIXEL_DECODE``, ``TRANSFER_SYNTAX``, ``UNREADABLE``;
        ``PIXEL_CONSTANT`` from ``check_content``.
    NotAssessableError
        From ``calibration``.
    """
    stored = stored_values(instance, limits or Limits(), frame=frame)
    check_content(stored, instance.header)
    return to_hounsfield(stored, instance.header)


def check_content(stored: NDArray, header: Dataset) -> None:
    """Check that a decoded slice shows something: an image of a scanner has noise, also in air.

    Parameters
    ----------
    stored : NDArray
        Stored values of the slice, shape (rows, columns).
    header : Dataset
        Of the slice; pixels that hold its padding value (PS3.3 C.7.5.1.1.2) are no part of what it shows.

    Raises
    ------
    FileRefusedError
        ``PIXEL_CONSTANT`` if all pixels, or all that are not padding, have one value.
    """
    padding = _padding_range(header)
    # Every fourth pixel is enough to tell an image from nothing; the others are for what looks like nothing.
    if _is_constant(stored[::4, ::4], padding) and _is_constant(stored, padding):
        raise FileRefusedError(
            "PIXEL_CONSTANT",
            "All pixels of a slice have one value, so that it shows nothing; send the images again.",
        )


def to_hounsfield(stored: NDArray, header: Dataset) -> NDArray[np.float32]:
    """Return stored values in HU, padding as air; shapes are equal."""
    slope, intercept = calibration(header)
    hu = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    padding = _padding_range(header)
    if padding is not None:
        hu[(stored >= padding[0]) & (stored <= padding[1])] = AIR_HU
    return hu


def stored_values(instance: Instance, limits: Limits, *, frame: int = 0) -> NDArray:
    """Return the stored values of one frame, int16 or uint16, shape (rows, columns)."""
    try:
        status = headers.check_regular(instance.path, limits)
        if (status.st_size, status.st_mtime_ns) != (instance.size, instance.modified):
            raise FileRefusedError(
                "CHANGED_DURING_READ",
                "The file changed after its header was read; wait until it is complete.",
            )
        if _is_indexed(instance):
            return _indexed_values(instance, limits, frame)
        dataset = _read(instance, limits)
        if "PixelData" not in dataset:
            raise FileRefusedError("PIXEL_LENGTH", "The file holds no pixel data; it may be cut off.")
        syntax = UID(dataset.file_meta.TransferSyntaxUID)
        # Elements are converted when they are asked for, so these can be damaged too.
        raw = _native(dataset, frame) if syntax in NATIVE else _compressed(dataset, frame, limits)
        return _stored_bits(raw, int(dataset.BitsStored), bool(dataset.PixelRepresentation))
    except OSError as error:
        raise FileRefusedError("CHANGED_DURING_READ", "The file is gone or can no longer be read.") from error
    except headers.DAMAGE as error:
        raise FileRefusedError(
            "PIXEL_LENGTH", f"The pixel data cannot be read ({type(error).__name__})."
        ) from error


def decode_codestream(stream: bytes, syntax: str, rows: int, columns: int) -> NDArray:
    """Return the samples of one compressed frame, shape (rows, columns), 8 or 16 bits.

    The one place where bytes of unknown origin reach a native decoder: isolation belongs here.

    Raises
    ------
    FileRefusedError
        ``PIXEL_DECODE`` if the stream is damaged or is not of the announced size, ``PIXEL_LENGTH`` if it is
        cut off.
    """
    if syntax not in RLE:
        found = jpeg_2000_frame_header(stream) if syntax in JPEG_2000 else jpeg_frame_header(stream)
        _check_frame_header(found, rows, columns)
        # Decoders make up what is missing at the end without a word. Padding of any value may follow.
        if _END_OF_STREAM not in stream[-64:]:
            raise FileRefusedError("PIXEL_LENGTH", "The compressed pixels end before their end marker.")
    try:
        image = _codec(syntax, rows, columns)(stream)
    except (RuntimeError, ValueError, TypeError) as error:
        raise FileRefusedError(
            "PIXEL_DECODE",
            f"The compressed pixels are damaged ({type(error).__name__}); send the file again.",
        ) from error
    if image.shape != (rows, columns) or image.dtype.itemsize > 2:
        raise FileRefusedError(
            "PIXEL_DECODE",
            f"The compressed pixels have shape {image.shape}; ({rows}, {columns}) was announced.",
        )
    return image


def _codec(syntax: str, rows: int, columns: int) -> Callable[[bytes], NDArray]:
    if syntax in RLE:
        return lambda stream: _run_length(stream, rows, columns)
    if syntax in JPEG_2000:
        return imagecodecs.jpeg2k_decode
    if syntax in JPEG_LS:
        return imagecodecs.jpegls_decode
    if syntax in JPEG_LOSSLESS | JPEG_LOSSY:
        return imagecodecs.jpeg8_decode
    raise FileRefusedError("TRANSFER_SYNTAX", "The pixels are stored in a form that is not read.")


def _run_length(stream: bytes, rows: int, columns: int) -> NDArray:
    """Decode RLE (PS3.5 Annex G) of 16-bit samples: two segments of bytes, the high ones first."""
    samples = imagecodecs.dicomrle_decode(stream, "<u2", out=2 * rows * columns)
    return np.frombuffer(samples, "<u2").reshape(rows, columns)


def _check_frame_header(found: FrameHeader | None, rows: int, columns: int) -> None:
    expected = (rows, columns, 1)
    if found is None or (found.rows, found.columns, found.components) != expected or found.precision > 16:
        what = "no frame header" if found is None else f"{found.rows} x {found.columns} x {found.components}"
        raise FileRefusedError(
            "PIXEL_DECODE",
            f"The code stream says {what}; {rows} x {columns} with one sample a pixel is expected.",
        )


def _is_indexed(instance: Instance) -> bool:
    """Tell whether a file holds several frames, so that each is read on its own."""
    deflated = instance.header.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    return not deflated and int(instance.header.get("NumberOfFrames") or 1) > 1


def _indexed_values(instance: Instance, limits: Limits, frame: int) -> NDArray:
    """Return the stored values of one of many frames, without reading the others."""
    found = multi_frame(instance.path, instance.size, instance.modified)
    header, syntax = found.header, UID(found.header.file_meta.TransferSyntaxUID)
    if syntax in NATIVE:
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        shape = (int(header.Rows), int(header.Columns))
        raw: NDArray = np.frombuffer(found.native(frame), f"{order}u2").reshape(shape)
    else:
        try:
            stream = found.compressed(frame)
        except headers.DAMAGE as error:
            raise _cut_off() from error
        raw = _decoded(stream, header, limits)
    return _stored_bits(raw, int(header.BitsStored), bool(header.PixelRepresentation))


def _cut_off() -> FileRefusedError:
    return FileRefusedError(
        "PIXEL_LENGTH", "The compressed pixel data is cut off or its fragments do not fit the frames."
    )


def _read(instance: Instance, limits: Limits) -> Dataset:
    if instance.header.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        return headers.inflated(instance.path, limits)
    return dcmread(instance.path)


def _native(dataset: Dataset, frame: int) -> NDArray:
    rows, columns, frames = int(dataset.Rows), int(dataset.Columns), int(dataset.get("NumberOfFrames") or 1)
    data, length = dataset.PixelData, 2 * rows * columns
    expected = length * frames
    # Values have even length already: samples of 16 bits leave no room for a padding byte.
    if len(data) != expected:
        raise FileRefusedError(
            "PIXEL_LENGTH", f"The pixel data has {len(data)} bytes; {expected} are expected."
        )
    order = ">" if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    return np.frombuffer(data, f"{order}u2", rows * columns, length * frame).reshape(rows, columns)


def _compressed(dataset: Dataset, frame: int, limits: Limits) -> NDArray:
    frames = int(dataset.get("NumberOfFrames") or 1)
    try:
        streams = generate_frames(dataset.PixelData, number_of_frames=frames)
        stream = next(item for index, item in enumerate(streams) if index == frame)
    except (StopIteration, *headers.DAMAGE) as error:
        raise _cut_off() from error
    return _decoded(stream, dataset, limits)


def _decoded(stream: bytes, header: Dataset, limits: Limits) -> NDArray:
    """Return the samples of a code stream that may be read, as its header announces them."""
    syntax = UID(header.file_meta.TransferSyntaxUID)
    if syntax == JPEG2000 and not limits.lossy:
        found = jpeg_2000_frame_header(stream)
        if found is not None and not found.reversible:
            raise FileRefusedError(
                "TRANSFER_SYNTAX",
                "The JPEG 2000 image is compressed with loss, read only with the setting lossy.",
            )
    return decode_codestream(stream, syntax, int(header.Rows), int(header.Columns))


def _stored_bits(raw: NDArray, bits: int, signed: bool) -> NDArray:
    """Return the lower ``bits`` of each sample as the number they stand for; the rest may hold overlays."""
    samples = (
        raw.astype(np.uint16)
        if raw.dtype.itemsize == 1
        else raw.astype(raw.dtype.newbyteorder("=")).view(np.uint16)
    )
    shift = 16 - bits
    if not signed:
        return samples & np.uint16((1 << bits) - 1) if shift else samples
    values = samples.view(np.int16)
    return (values << shift) >> shift if shift else values


def _is_constant(stored: NDArray, padding: tuple[int, int] | None) -> bool:
    shown = stored if padding is None else stored[(stored < padding[0]) | (stored > padding[1])]
    return not shown.size or bool(shown.min() == shown.max())


def _padding_range(header: Dataset) -> tuple[int, int] | None:
    """Return the lowest and the highest stored value that is padding, or None if nothing is."""
    first = _padding(header, "PixelPaddingValue")
    if first is None:
        return None
    last = _padding(header, "PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return low, high


def _padding(header: Dataset, keyword: str) -> int | None:
    """Return a padding value in the numbers of the stored values.

    Scanners write it with the sign of the other Pixel Representation too: 63536 stands for -2000.
    """
    value = headers.number(header, keyword)
    if value is None:
        return None
    bits, signed = int(header.BitsStored), bool(header.PixelRepresentation)
    wrapped = int(value) % (1 << 16)
    if signed:
        return wrapped - (1 << 16) if wrapped >= 1 << 15 else wrapped
    return wrapped % (1 << bits) if int(value) < 0 else wrapped
