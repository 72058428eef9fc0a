"""Small files that grow: a deflated data set and a packed NIfTI volume."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel
import numpy as np

_MEGABYTE = 1 << 20


def deflate_bomb(path: Path, megabytes: int) -> None:
    """Make a DICOM file (Explicit VR Little Endian) a deflated one that grows by one element of zeros."""
    content = path.read_bytes()
    length = 132 + 12 + int.from_bytes(content[140:144], "little")
    meta = content[:length].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    grown = meta[:140] + (int.from_bytes(meta[140:144], "little") + 2).to_bytes(4, "little") + meta[144:]
    grown = grown.replace(b"UI\x14\x001.2.840.10008.1.2.1.99", b"UI\x16\x001.2.840.10008.1.2.1.99")
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    element = b"\x09\x00\x10\x00UN\0\0" + (megabytes * _MEGABYTE).to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(grown + deflater.compress(content[length:] + element))
        for _ in range(megabytes):
            file.write(deflater.compress(bytes(_MEGABYTE)))
        file.write(deflater.flush())


def nifti_bomb(
    path: Path, affine: np.ndarray, shape: tuple[int, int, int] = (512, 512, 400), megabytes: int = 200
) -> None:
    """Write a packed NIfTI file: the header of a volume, and megabytes of zeros."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    packer = zlib.compressobj(9, wbits=31)
    with path.open("wb") as file:
        file.write(packer.compress(header.binaryblock + bytes(4)))
        for _ in range(megabytes):
            file.write(packer.compress(bytes(_MEGABYTE)))
        file.write(packer.flush())
