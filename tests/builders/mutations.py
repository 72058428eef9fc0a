"""Damage done to good files, each kind by a generator of random numbers: the same numbers, the same file.

Bytes are flipped, replaced, cut out and copied without regard to what they mean; and DICOM and NIfTI files
are spoiled where it hurts: lengths, value representations, values, fragments, the markers of code streams,
the fields of headers. Most of what passes a parser's first look is of the second kind.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import nibabel
import numpy as np

Mutation = Callable[[bytearray, np.random.Generator], None]

# Transfer Syntax UID (0002,0010) and Pixel Data (7FE0,0010), as little-endian files begin them.
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_LONG = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"}
REPRESENTATIONS = (
    *_LONG, b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH",
    b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US", b"zz", b"\0\0",
)  # fmt: skip
_LENGTHS = (0, 1, 2, 3, 7, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFC, 0xFFFFFFFE, 0xFFFFFFFF)
VALUES = (
    b"", b" ", b"\0", b"nan", b"NaN", b"inf", b"-inf", b"1e400", b"-1e400", b"1e-400", b"-0", b"+", b"0x10",
    b"1_000", b"\\", b"\\\\\\\\", b"1\\2\\3\\4\\5\\6\\7", b"9" * 400, b"-1", b"0", b"65536", b"4294967296",
    b"2.5",
    b"\xff\xfe\xfd", b"\x1b$B\x1b(", b"\r\n\t", b"../../etc/passwd", b"%s%n{0}", b"1.2.840.10008.1.2.4.90",
    b"99999999", b"00000000", b"20201332", b"ISO_IR 999", b"ISO 2022 IR 87", b"ORIGINAL\\PRIMARY\\LOCALIZER",
)  # fmt: skip
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True)
class Element:
    """Where a data element stands: its beginning, the place and width of its length, and its value."""

    start: int
    length_at: int
    length_bytes: int
    value: int
    end: int
    explicit: bool


def elements(content: bytes) -> list[Element]:
    """Return the data elements of a little-endian file in file order, without going into sequences."""
    found: list[Element] = []
    position, explicit = 132, True
    meta_end = 144 + int.from_bytes(content[140:144], "little")
    implicit_body = b"1.2.840.10008.1.2\0" in content[:meta_end]
    while position + 8 <= len(content):
        explicit = position < meta_end or not implicit_body
        element = _element(content, position, explicit=explicit)
        if element is None or element.end > len(content):
            break
        found.append(element)
        position = element.end
    return found


def _element(content: bytes, start: int, *, explicit: bool) -> Element | None:
    if not explicit:
        at, width = start + 4, 4
    elif content[start + 4 : start + 6] in _LONG:
        at, width = start + 8, 4
    elif content[start + 4 : start + 6].isalpha():
        at, width = start + 6, 2
    else:
        return None
    length = int.from_bytes(content[at : at + width], "little")
    if length == 0xFFFFFFFF:
        return Element(start, at, width, at + width, len(content), explicit)
    return Element(start, at, width, at + width, at + width + length, explicit)


# --- without regard to meaning


def flip_bits(content: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 12))):
        content[_place(content, rng)] ^= 1 << int(rng.integers(8))


def replace_bytes(content: bytearray, rng: np.random.Generator) -> None:
    start, length = _place(content, rng), int(rng.integers(1, 64))
    content[start : start + length] = rng.bytes(min(length, len(content) - start))


def put_an_edge(content: bytearray, rng: np.random.Generator) -> None:
    width = int(rng.choice([1, 2, 4]))
    value = int(rng.choice(_EDGES)) & ((1 << 8 * width) - 1)
    start = min(_place(content, rng), len(content) - width)
    content[start : start + width] = value.to_bytes(width, "big" if rng.random() < 0.5 else "little")


def cut_off(content: bytearray, rng: np.random.Generator) -> None:
    del content[_place(content, rng) :]


def cut_out(content: bytearray, rng: np.random.Generator) -> None:
    start = _place(content, rng)
    del content[start : start + int(rng.integers(1, 200))]


def copy_in(content: bytearray, rng: np.random.Generator) -> None:
    start, to = _place(content, rng), _place(content, rng)
    content[to:to] = content[start : start + int(rng.integers(1, 400))]


def append(content: bytearray, rng: np.random.Generator) -> None:
    content += rng.bytes(int(rng.integers(1, 600)))


def _place(content: bytearray, rng: np.random.Generator) -> int:
    """Return a place, as often in the header or at the beginning of the pixels as anywhere."""
    pixels = content.find(_PIXEL_DATA)
    region = rng.random()
    if pixels > 0 and region < 0.4:
        return int(rng.integers(pixels))
    if pixels > 0 and region < 0.7:
        return int(rng.integers(pixels, min(len(content), pixels + 400)))
    return int(rng.integers(max(1, len(content))))


# --- data elements


def _chosen(content: bytearray, rng: np.random.Generator) -> Element | None:
    found = elements(bytes(content))
    return found[int(rng.integers(len(found)))] if found else None


def _spoil_element(change: Callable[[bytearray, Element, np.random.Generator], None]) -> Mutation:
    def mutation(content: bytearray, rng: np.random.Generator) -> None:
        element = _chosen(content, rng)
        if element is not None:
            change(content, element, rng)

    mutation.__name__ = change.__name__
    return mutation


@_spoil_element
def change_length(content: bytearray, element: Element, rng: np.random.Generator) -> None:
    length = int(rng.choice(_LENGTHS)) & ((1 << 8 * element.length_bytes) - 1)
    end = element.length_at + element.length_bytes
    content[element.length_at : end] = length.to_bytes(element.length_bytes, "little")


@_spoil_element
def change_representation(content: bytearray, element: Element, rng: np.random.Generator) -> None:
    if element.explicit:
        content[element.start + 4 : element.start + 6] = REPRESENTATIONS[
            int(rng.integers(len(REPRESENTATIONS)))
        ]


@_spoil_element
def change_value(content: bytearray, element: Element, rng: np.random.Generator) -> None:
    """Another value of a length that is right."""
    value = VALUES[int(rng.integers(len(VALUES)))]
    if rng.random() < 0.3:
        value = rng.bytes(int(rng.integers(0, 40)))
    value += b" " * (len(value) % 2)
    content[element.value : element.end] = value
    end = element.length_at + element.length_bytes
    content[element.length_at : end] = len(value).to_bytes(element.length_bytes, "little")


@_spoil_element
def fill_value(content: bytearray, element: Element, rng: np.random.Generator) -> None:
    """Another value of the same length: all bits set, none, or those of an edge."""
    pattern = int(rng.choice(_EDGES)).to_bytes(4, "little")
    length = min(element.end - element.value, 256)
    content[element.value : element.value + length] = (pattern * (length // 4 + 1))[:length]


@_spoil_element
def leave_out(content: bytearray, element: Element, rng: np.random.Generator) -> None:
    del content[element.start : element.end]


@_spoil_element
def repeat(content: bytearray, element: Element, rng: np.random.Generator) -> None:
    content[element.end : element.end] = content[element.start : element.end] * int(rng.integers(1, 20))


@_spoil_element
def change_tag(content: bytearray, element: Element, rng: np.random.Generator) -> None:
    place = element.start + int(rng.integers(4))
    content[place] = int(rng.integers(256))


@_spoil_element
def open_sequence(content: bytearray, element: Element, rng: np.random.Generator) -> None:
    """A sequence of items whose end is left open, or lies beyond the file, some levels deep."""
    length = int(rng.choice([0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 8])).to_bytes(4, "little")
    vr = b"SQ\0\0" if element.explicit else b""
    begin = b"\x08\x00\x40\x11" + vr + length + b"\xfe\xff\x00\xe0" + length
    content[element.start : element.start] = begin * int(rng.integers(1, 60))


# --- pixels


def spoil_fragments(content: bytearray, rng: np.random.Generator) -> None:
    """Change a tag or a length of the encapsulation (PS3.5 A.4)."""
    start = content.find(_PIXEL_DATA)
    items = []
    while (start := content.find(b"\xfe\xff", start + 2)) > 0 and len(items) < 20:
        items.append(start)
    if items:
        item = items[int(rng.integers(len(items)))]
        value = int(rng.choice(_LENGTHS)).to_bytes(4, "little")
        at = item + (4 if rng.random() < 0.7 else 0)
        content[at : at + 4] = value


def spoil_markers(content: bytearray, rng: np.random.Generator) -> None:
    """Change what follows a marker of JPEG, JPEG-LS or JPEG 2000: sizes, tables, progression, tiles."""
    start = content.find(_PIXEL_DATA)
    if start < 0:
        return
    places = [
        at
        for at in range(start + 8, min(len(content) - 40, start + 1500))
        if content[at] == 0xFF and content[at + 1] not in (0x00, 0xFF)
    ]
    if places:
        at = places[int(rng.integers(len(places)))] + int(rng.integers(1, 40))
        value = int(rng.choice(_EDGES)).to_bytes(4, "big")[-int(rng.choice([1, 2, 4])) :]
        content[at : at + len(value)] = value


def spoil_segments(content: bytearray, rng: np.random.Generator) -> None:
    """Change the header of an RLE frame (PS3.5 G.5), or the first bytes of any other."""
    start = content.find(_PIXEL_DATA)
    if start < 0:
        return
    at = min(start + 12 + 8 + 8 + 4 * int(rng.integers(16)), len(content) - 4)
    content[at : at + 4] = int(rng.choice(_LENGTHS)).to_bytes(4, "little")


DICOM: tuple[Mutation, ...] = (
    flip_bits, flip_bits, replace_bytes, put_an_edge, cut_off, cut_out, copy_in, append,
    change_length, change_length, change_representation, change_value, change_value, change_value,
    fill_value, leave_out, repeat, change_tag, open_sequence, spoil_fragments, spoil_markers, spoil_markers,
    spoil_segments,
)  # fmt: skip


def mutated_dicom(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return what was done, and a DICOM file with one to three faults."""
    spoilt, names = bytearray(content), []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        mutation = DICOM[int(rng.integers(len(DICOM)))]
        if len(spoilt) > 200:
            mutation(spoilt, rng)
            names.append(mutation.__name__)
    return " ".join(names), bytes(spoilt)


# --- NIfTI

_FIELDS = {name: nibabel.nifti1.header_dtype.fields[name] for name in nibabel.nifti1.header_dtype.names}
_NUMBERS = (0, 1, -1, 2, 3, 4, 7, 8, 32767, -32768, 352, 348, 1e30, -1e30, 1e-30, float("nan"), float("inf"))


def spoil_field(content: bytearray, rng: np.random.Generator) -> None:
    """Put an edge, or noise, into a field of the header."""
    dtype, offset = list(_FIELDS.values())[int(rng.integers(len(_FIELDS)))][:2]
    base, count = (dtype.base, int(np.prod(dtype.shape or (1,))))
    place = offset + base.itemsize * int(rng.integers(count))
    if base.kind == "S" or rng.random() < 0.3:
        value = rng.bytes(base.itemsize)
    else:
        number = float(rng.choice(_NUMBERS))
        with np.errstate(all="ignore"):
            whole = np.int64(np.clip(np.nan_to_num(number), -(2.0**40), 2.0**40))
            value = np.asarray(number if base.kind == "f" else whole).astype(base).tobytes()
    content[place : place + len(value)] = value


def spoil_voxels(content: bytearray, rng: np.random.Generator) -> None:
    """Put a number that is none, or huge, among the voxels."""
    place = int(rng.integers(352, len(content) - 8)) // 4 * 4
    content[place : place + 4] = struct.pack("<f", rng.choice([np.nan, np.inf, -np.inf, 3e38]))


NIFTI: tuple[Mutation, ...] = (
    spoil_field, spoil_field, spoil_field, spoil_field, flip_bits, replace_bytes, put_an_edge, cut_off,
    cut_out, append, spoil_voxels,
)  # fmt: skip
_PACKED: tuple[Mutation, ...] = (flip_bits, replace_bytes, put_an_edge, cut_off, cut_out, copy_in, append)


def mutated_nifti(content: bytes, rng: np.random.Generator, *, packed: bool) -> tuple[str, bytes]:
    """Return what was done, and a NIfTI file with one to three faults, packed or not.

    A packed file has its faults before it is packed or, as often, behind.
    """
    inside = not packed or rng.random() < 0.5
    spoilt, names = bytearray(content if inside else _pack(content)), []
    known = NIFTI if inside else _PACKED
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        mutation = known[int(rng.integers(len(known)))]
        if len(spoilt) > 400:
            mutation(spoilt, rng)
            names.append(mutation.__name__)
    return " ".join(names), _pack(spoilt) if inside and packed else bytes(spoilt)


def _pack(content: bytes | bytearray) -> bytes:
    # Level 1: what is inside matters, not how small it is.
    return gzip.compress(content, zlib.Z_BEST_SPEED, mtime=0)
