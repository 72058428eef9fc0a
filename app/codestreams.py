"""What a compressed code stream says about itself, read before a decoder sees it.

Decoders allocate what the stream asks for; a few hundred bytes can ask for gigabytes. The frame header is
therefore compared with the DICOM header first. Sources: ITU-T T.81 B.2.2 (JPEG), T.87 C.2.2 (JPEG-LS),
T.800 A.5.1 and A.6.1 (JPEG 2000).
"""

from __future__ import annotations

from dataclasses import dataclass

_START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xF7})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True)
class FrameHeader:
    """Size, samples a pixel and bits a sample of a code stream; ``reversible`` matters to JPEG 2000."""

    rows: int
    columns: int
    components: int
    precision: int
    reversible: bool = True


def jpeg_frame_header(stream: bytes) -> FrameHeader | None:
    """Return the frame header of a JPEG or JPEG-LS stream, or None if there is none."""
    position = 2
    if stream[:2] != b"\xff\xd8":
        return None
    while position + 4 <= len(stream) and stream[position] == 0xFF:
        marker = stream[position + 1]
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        segment = stream[position + 4 : position + 2 + int.from_bytes(stream[position + 2 : position + 4])]
        if marker in _START_OF_FRAME:
            if len(segment) < 6:
                return None
            rows, columns = int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5])
            return FrameHeader(rows, columns, segment[5], segment[0], reversible=marker in (0xC3, 0xF7))
        position += 4 + len(segment)
    return None


def jpeg_2000_frame_header(stream: bytes) -> FrameHeader | None:
    """Return the frame header of a JPEG 2000 code stream, raw or in a JP2 file, or None."""
    start = stream.find(b"\xff\x4f\xff\x51", 0, 512)
    size = stream[start + 6 : start + 6 + 38]
    if start < 0 or len(size) < 38:
        return None
    right, bottom, left, top = (int.from_bytes(size[at : at + 4]) for at in (2, 6, 10, 14))
    components = int.from_bytes(size[34:36])
    return FrameHeader(
        bottom - top, right - left, components, (size[36] & 0x7F) + 1, _reversible(stream, start)
    )


def _reversible(stream: bytes, start: int) -> bool:
    """Tell whether the wavelet is the reversible 5-3 one: last byte of the fixed part of COD is 1."""
    position = start + 2
    while position + 14 <= len(stream) and stream[position] == 0xFF:
        if stream[position + 1] == 0x52:
            return stream[position + 13] == 1
        position += 2 + int.from_bytes(stream[position + 2 : position + 4])
    return False
