"""Frames of a multi-frame file one by one: its header is read once, and of its pixels what is asked for."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame, parse_basic_offsets, parse_fragments
from pydicom.uid import UID, ExplicitVRBigEndian

from covid_ct_mask_net.app.headers import FileRefusedError

_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = (0x7FE0, 0x0010)


@dataclass(frozen=True, eq=False)
class MultiFrame:
    """Where the pixels of a file lie.

    Attributes
    ----------
    path
        The file.
    header
        Its header, without pixels.
    start, length
        First byte and number of bytes of the pixel data; the length of compressed ones is not defined.
    fragments
        Where the compressed frames begin, if each is one fragment and the file has no table of them.
    """

    path: Path
    header: Dataset
    start: int
    length: int
    fragments: tuple[int, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames that the header announces."""
        return int(self.header.get("NumberOfFrames") or 1)

    def native(self, frame: int) -> bytes:
        """Return the bytes of a frame of native 16-bit pixels.

        Raises
        ------
        FileRefusedError
            ``PIXEL_LENGTH``.
        """
        size = 2 * int(self.header.Rows) * int(self.header.Columns)
        held = min(self.length, self.path.stat().st_size - self.start)
        # Values have even length already: samples of 16 bits leave no room for a padding byte.
        if self.length != size * self.frames or held != self.length:
            raise FileRefusedError(
                "PIXEL_LENGTH", f"The pixel data has {held} bytes; {size * self.frames} are expected."
            )
        with self.path.open("rb") as file:
            file.seek(self.start + frame * size)
            return file.read(size)

    def compressed(self, frame: int) -> bytes:
        """Return the code stream of a frame; damage raises what `headers.DAMAGE` lists."""
        if self.length != _UNDEFINED:
            raise ValueError("compressed pixel data of a defined length")
        with self.path.open("rb") as file:
            if not self.fragments:
                file.seek(self.start)
                return get_frame(file, frame, number_of_frames=self.frames)
            file.seek(self.fragments[frame])
            _, length = struct.unpack("<II", file.read(8))
            return _whole(file, length)


@lru_cache(maxsize=1)
def multi_frame(path: Path, size: int, modified: int) -> MultiFrame:
    """Return where the pixels of a file lie; the file that was asked for last is remembered.

    Parameters
    ----------
    path : Path
        A file with a header that was accepted.
    size, modified : int
        Of the file: a changed one is another.
    """
    del size, modified
    with path.open("rb") as file:
        header = dcmread(file, stop_before_pixels=True)
        syntax = UID(header.file_meta.TransferSyntaxUID)
        length = _element_length(file, syntax)
        start = file.tell()
        fragments: tuple[int, ...] = ()
        if length == _UNDEFINED and not parse_basic_offsets(file):
            _, offsets = parse_fragments(file)
            frames = int(header.get("NumberOfFrames") or 1)
            fragments = tuple(offsets) if len(offsets) == frames else ()
    return MultiFrame(path, header, start, length, fragments)


def _element_length(file: BinaryIO, syntax: UID) -> int:
    """Read the beginning of the pixel data element up to its value (PS3.5 section 7.1)."""
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    beginning = file.read(8)
    if len(beginning) < 8 or struct.unpack(f"{order}HH", beginning[:4]) != _PIXEL_DATA:
        raise FileRefusedError("PIXEL_LENGTH", "The file holds no pixel data; it may be cut off.")
    # Implicit VR has the length in the place of VR and reserved bytes; OB and OW have both and then a length.
    raw = beginning[4:] if syntax.is_implicit_VR else _whole(file, 4)
    (length,) = struct.unpack(f"{order}I", raw)
    return int(length)


def _whole(file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise EOFError("the file ends within its pixels")
    return content
