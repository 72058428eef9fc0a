"""NIfTI files are checked by their headers and read piece by piece, counted as they are unpacked.

What passes is one three-dimensional volume of real numbers whose place in the patient is known without doubt.
Everything else is refused by a reason code of its own; readers would load most of it and guess. Nothing here
needs torch or MONAI, so that the process that reads untrusted files stays small.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.geometry import canonical_axes
from covid_ct_mask_net.reduction import ReductionRule, reduced_side

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_GZIP_MAGIC = b"\x1f\x8b"
# Header length and magic of NIfTI-1 and NIfTI-2 in one file (nifti1.h, nifti2.h).
_KINDS = {
    348: (nibabel.nifti1.Nifti1Header, b"n+1\0", 344),
    540: (nibabel.nifti2.Nifti2Header, b"n+2\0", 4),
}
_CHUNK = 1 << 20
# Unknown, scanner, aligned, Talairach, MNI, other template (nifti1.h; the last is newer than that).
_PLACE_CODES = range(6)
_File = io.BufferedReader | gzip.GzipFile
# The lower three bits of xyzt_units tell the unit of lengths; without one, millimetres are meant.
_SPACE_UNITS, _MILLIMETRES, _OTHER_UNITS = 0x07, (0, 2), {1: "metres", 3: "micrometres"}
# Rounding of quaternions and of float32 stays far below; other places in the patient lie far above.
_CONFLICT_MM, _CONFLICT_SHARE = 1.0, 0.02


@dataclass(frozen=True)
class NiftiLimits:
    """Bounds on a NIfTI file.

    Attributes
    ----------
    side
        Voxels along either side of an axial slice.
    slices
        Axial slices, whichever axis they are stored along.
    voxels
        Voxels held in memory, after larger volumes were reduced.
    unpacked_bytes
        All voxels as they are stored.
    inflate_ratio
        A packed file may grow to this many times its size; CT grows to two or three times.
    reduction
        When and how far slices are reduced.
    """

    side: int = 2048
    slices: int = 3000
    voxels: int = 1_500_000_000
    unpacked_bytes: int = 8 * 1024**3
    inflate_ratio: int = 200
    reduction: ReductionRule = field(default_factory=ReductionRule)

    def factors(self, image: NiftiImage) -> tuple[int, int, int]:
        """Return how many voxels become one along each axis: 1 along the slices, the same along others."""
        along = canonical_axes(image.affine)[0][2]
        sides = [size for axis, size in enumerate(image.shape) if axis != along]
        factor = self.reduction.factor(sides[0], sides[1], image.shape[along])
        first, second, third = (1 if axis == along else factor for axis in range(3))
        return first, second, third

    def check(self, image: NiftiImage) -> None:
        """Refuse a volume that is too large, by what its header says.

        Raises
        ------
        RefusedInputError
            ``NIFTI_SIZE``.
        """
        kept = [reduced_side(n, f) for n, f in zip(image.shape, self.factors(image), strict=True)]
        along = canonical_axes(image.affine)[0][2]
        sides = [size for axis, size in enumerate(image.shape) if axis != along]
        fits = max(sides) <= self.side and image.shape[along] <= self.slices
        fits = fits and math.prod(kept) <= self.voxels
        if not fits or image.size > self.unpacked_bytes:
            x, y, z = image.shape
            raise RefusedInputError(
                "NIFTI_SIZE",
                f"The file has {x} x {y} x {z} voxels of {image.size} bytes, its axial slices along axis "
                f"{along + 1}; at most {self.side} along the sides of a slice, {self.slices} slices, "
                f"{self.voxels} voxels held in memory and {self.unpacked_bytes} bytes are accepted.",
            )


@dataclass(frozen=True, eq=False)
class NiftiImage:
    """What the header of a NIfTI file says of its voxels.

    Attributes
    ----------
    shape
        Voxels along each axis; the first varies fastest in the file.
    dtype
        Of a voxel, with its byte order, as numpy writes it.
    slope, intercept
        From stored values to HU; None where values are as stored.
    affine
        float64 (4, 4): voxel to RAS mm.
    """

    shape: tuple[int, int, int]
    dtype: str
    slope: float | None
    intercept: float | None
    affine: NDArray[np.float64]

    @property
    def size(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


NiftiStream = AbstractContextManager[tuple[NiftiImage, Iterator[bytes]]]
"""The header of a file, and its voxels piece by piece. Both raise as `open_nifti` does."""


@contextmanager
def open_nifti(path: Path, limits: NiftiLimits | None = None) -> Iterator[tuple[NiftiImage, Iterator[bytes]]]:
    """Open a file that may hold one CT volume: its header, checked, and its voxels in pieces of some MB.

    Bytes are counted as they are unpacked; no more of a file is read than its header describes. Only what was
    read to the end without an error is such a file.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file.
    limits : NiftiLimits, optional
        Bounds, checked by the header before anything is unpacked.

    Raises
    ------
    RefusedInputError
        ``NIFTI_UNREADABLE``, ``NIFTI_TRUNCATED``, ``NIFTI_GZIP``; ``NIFTI_MAGIC`` (no single file);
        ``NIFTI_DIMENSIONS`` (not three-dimensional); ``NIFTI_SIZE`` (too large, or other than its header
        says); ``NIFTI_DATATYPE`` (colour, complex, bits); ``NIFTI_SCALING``; ``NIFTI_UNITS`` (not
        millimetres); ``NIFTI_SPACING``; ``NIFTI_AFFINE`` (none, or without inverse);
        ``NIFTI_AFFINE_CONFLICT`` (two contradict each other).
    """
    limits = limits or NiftiLimits()
    with _refusing(), path.open("rb") as raw:
        packed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        _check_name(path, packed)
        with gzip.GzipFile(fileobj=raw) if packed else raw as file:
            yield _opened(file, limits, path.stat().st_size, packed)


def check_nifti(path: Path, limits: NiftiLimits | None = None) -> None:
    """Let a file through that holds exactly one CT volume, or refuse it; nothing of it is kept.

    Raises
    ------
    RefusedInputError
        See `open_nifti`.
    """
    with open_nifti(path, limits) as (_, pieces):
        for _ in pieces:
            pass


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise RefusedInputError(
            "NIFTI_TRUNCATED", "The compressed file ends too early; copy it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise RefusedInputError(
            "NIFTI_GZIP", f"The file cannot be unpacked ({error}); copy it again."
        ) from error
    except OSError as error:
        raise RefusedInputError(
            "NIFTI_UNREADABLE", f"The file cannot be read ({error.strerror or 'I/O error'})."
        ) from error


def _check_name(path: Path, packed: bool) -> None:
    """Readers go by the name; where it lies about the content, they fail or read noise."""
    if packed != path.name.endswith(".gz"):
        found, named = ("packed", "as if it were not") if packed else ("not packed", "*.gz")
        raise RefusedInputError(
            "NIFTI_GZIP",
            f"The content of the file is {found} with gzip but its name says {named}; rename it.",
        )


def _opened(
    file: _File, limits: NiftiLimits, file_size: int, packed: bool
) -> tuple[NiftiImage, Iterator[bytes]]:
    header, beginning = _read_header(file)
    shape = _checked_shape(header)
    dtype = _checked_type(header)
    slope, intercept = _checked_scaling(header)
    _check_units(header)
    affine = _checked_affine(header, shape)
    image = NiftiImage(shape, dtype.str, slope, intercept, affine)
    limits.check(image)
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and len(beginning) <= offset <= len(beginning) + 64 * _CHUNK):
        raise RefusedInputError(
            "NIFTI_SIZE", f"The header says that the voxels begin at byte {offset:g}, which cannot be."
        )
    expected = int(offset) + image.size
    if packed and expected > file_size * limits.inflate_ratio:
        raise RefusedInputError(
            "NIFTI_SIZE",
            f"The packed file would grow to {expected} bytes, more than {limits.inflate_ratio} times its "
            "size, which no CT does; it was not unpacked.",
        )
    if not packed and file_size < expected:
        raise _truncated(file_size, expected)
    return image, _pieces(file, len(beginning), int(offset), expected)


def _pieces(file: _File, already: int, offset: int, expected: int) -> Iterator[bytes]:
    """Yield the bytes from ``offset`` on, and see to it that the file ends where they do."""
    found = already
    while found < expected:
        end = offset if found < offset else expected
        piece = _read(file, min(_CHUNK, end - found))
        if not piece:
            raise _truncated(found, expected)
        if found >= offset:
            yield piece
        found += len(piece)
    if _read(file, 1):
        raise RefusedInputError(
            "NIFTI_SIZE", f"The file holds more than the {expected} bytes that its header describes."
        )


def _read(file: _File, length: int) -> bytes:
    with _refusing():
        return file.read(length)


def _truncated(found: int, expected: int) -> RefusedInputError:
    return RefusedInputError(
        "NIFTI_TRUNCATED",
        f"The file holds {found} bytes, but its header describes {expected}; copy it again.",
    )


def _read_header(file: _File) -> tuple[Any, bytes]:
    """Return the header and its bytes, in the byte order of the file."""
    beginning = file.read(348)
    if len(beginning) < 348:
        raise RefusedInputError(
            "NIFTI_TRUNCATED",
            f"The file ends after {len(beginning)} bytes, within its header; copy it again.",
        )
    for order, endianness in (("little", "<"), ("big", ">")):
        length = int.from_bytes(beginning[:4], order)  # type: ignore[arg-type]
        if length not in _KINDS:
            continue
        kind, magic, place = _KINDS[length]
        if not beginning[place:].startswith(magic):
            break
        beginning += file.read(length - 348)
        if len(beginning) < length:
            raise RefusedInputError("NIFTI_TRUNCATED", "The file ends within its header; copy it again.")
        header = kind(beginning, endianness=endianness, check=False)  # type: ignore[no-untyped-call]
        return header, beginning
    raise RefusedInputError(
        "NIFTI_MAGIC", "The file is no NIfTI image in one file (.nii); pairs of .hdr and .img are not read."
    )


def _checked_shape(header: Any) -> tuple[int, int, int]:
    dimensions = [int(n) for n in header["dim"]]
    count, sizes = dimensions[0], dimensions[1:]
    if not 1 <= count <= 7 or count < 3 or any(n != 1 for n in sizes[3:count]):
        shown = " x ".join(str(n) for n in sizes[: max(0, min(count, 7))]) or "no"
        raise RefusedInputError(
            "NIFTI_DIMENSIONS", f"The file has {shown} voxels; one three-dimensional volume is expected."
        )
    x, y, z = sizes[:3]
    if min(x, y, z) < 1:
        raise RefusedInputError(
            "NIFTI_DIMENSIONS", f"The file has {x} x {y} x {z} voxels; each must be at least 1."
        )
    return x, y, z


def _checked_type(header: Any) -> np.dtype[Any]:
    code, bits = int(header["datatype"]), int(header["bitpix"])
    try:
        dtype = np.dtype(header.get_data_dtype())
    except (KeyError, nibabel.spatialimages.HeaderDataError):
        # No such type, or one of no size.
        dtype = np.dtype("V1")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise RefusedInputError(
            "NIFTI_DATATYPE",
            f"The voxels have data type {code}; integers or floating point numbers of up to 64 bits are "
            "expected.",
        )
    if bits != 8 * dtype.itemsize:
        raise RefusedInputError(
            "NIFTI_DATATYPE", f"The header says {dtype.name} voxels of {bits} bits, which cannot be."
        )
    return dtype


def _checked_scaling(header: Any) -> tuple[float | None, float | None]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    # No slope, or 0, means that values are as stored (nifti1.h); with a slope, both must be numbers.
    if math.isnan(slope) or slope == 0.0:
        return None, None
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise RefusedInputError(
            "NIFTI_SCALING", f"Values are scaled by {slope:g} and {intercept:g}; both must be numbers."
        )
    return slope, intercept


def _check_units(header: Any) -> None:
    """Refuse lengths in other units: everything that is measured counts on millimetres."""
    code = int(header["xyzt_units"]) & _SPACE_UNITS
    if code not in _MILLIMETRES:
        unit = _OTHER_UNITS.get(code, "a unit that nobody knows")
        raise RefusedInputError(
            "NIFTI_UNITS",
            f"The header gives lengths in {unit} (xyzt_units, code {code}); millimetres (2) or no unit "
            "(0) are expected. Convert pixdim and the affines to millimetres, and set the code to 2.",
        )


def _checked_affine(header: Any, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the affine of a volume whose place in the patient is known without doubt."""
    spacing = np.asarray(header["pixdim"], dtype=np.float64)[1:4]
    if not (np.isfinite(spacing).all() and (spacing > 0.0).all()):
        raise RefusedInputError(
            "NIFTI_SPACING",
            f"The voxels are {' x '.join(f'{s:g}' for s in spacing)} mm large; correct the header.",
        )
    for code in ("qform_code", "sform_code"):
        if int(header[code]) not in _PLACE_CODES:
            raise RefusedInputError(
                "NIFTI_AFFINE",
                f"The header has {code} {int(header[code])}; 0 to {max(_PLACE_CODES)} are known. How the "
                "volume lies in the patient cannot be known.",
            )
    affines = {
        name: np.asarray(read(), dtype=np.float64)
        for name, code, read in _affines(header)
        if int(header[code]) > 0
    }
    if not affines:
        raise RefusedInputError(
            "NIFTI_AFFINE",
            "The header does not say how the volume lies in the patient (qform_code and sform_code are 0); "
            "left and right cannot be known.",
        )
    for name, affine in affines.items():
        _check_affine(name, affine, spacing)
    if len(affines) == 2:
        between = (affines["sform"] - affines["qform"])[:3, :3] * (np.array(shape) - 1.0)
        apart = float(np.abs(between).sum(axis=1).max())
        if apart > _CONFLICT_MM:
            raise RefusedInputError(
                "NIFTI_AFFINE_CONFLICT",
                f"The qform and the sform of the header put the same voxels up to {apart:.1f} mm apart; set "
                "the code of the wrong one to 0.",
            )
    # nibabel's choice too.
    return affines["sform"] if "sform" in affines else affines["qform"]


def _affines(header: Any) -> tuple[tuple[str, str, Callable[[], Any]], ...]:
    return (("qform", "qform_code", lambda: _qform(header)), ("sform", "sform_code", header.get_sform))


def _qform(header: Any) -> NDArray[np.float64]:
    if float(header["pixdim"][0]) == 0.0:
        # "If pixdim[0]=0.0 (which should not occur), we take qfac=1" (nifti1.h); nibabel does not.
        header["pixdim"][0] = 1.0
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (ValueError, nibabel.spatialimages.HeaderDataError):
        # Quaternions that are no rotation, or a qfac that is no sign.
        return np.full((4, 4), np.nan)


def _check_affine(name: str, affine: NDArray[np.float64], spacing: NDArray[np.float64]) -> None:
    matrix = affine[:3, :3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(matrix)) < 1e-6 * float(np.prod(spacing)):
        raise RefusedInputError(
            "NIFTI_AFFINE", f"The {name} of the header has no inverse; correct the header."
        )
    sides = np.linalg.norm(matrix, axis=0)
    if (np.abs(sides / spacing - 1.0) > _CONFLICT_SHARE).any():
        raise RefusedInputError(
            "NIFTI_AFFINE_CONFLICT",
            f"The {name} of the header makes voxels {' x '.join(f'{s:.3g}' for s in sides)} mm large, but "
            f"pixdim says {' x '.join(f'{s:.3g}' for s in spacing)} mm; correct the one that is wrong.",
        )
