"""Which transfer syntaxes (PS3.5 section 10, PS3.6 table A-1) are read."""

from __future__ import annotations

from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

NATIVE = frozenset(
    {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    }
)
JPEG_LOSSLESS = frozenset({JPEGLossless, JPEGLosslessSV1})
JPEG_LS = frozenset({JPEGLSLossless, JPEGLSNearLossless})
JPEG_2000 = frozenset({JPEG2000Lossless, JPEG2000})
JPEG_LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit})
RLE = frozenset({RLELossless})

LOSSY = JPEG_LOSSY | {JPEGLSNearLossless}
READABLE = NATIVE | JPEG_LOSSLESS | JPEG_LS | JPEG_2000 | RLE | JPEG_LOSSY


def is_readable(syntax: str, lossy_allowed: bool, lossy_image: bool = False) -> bool:
    """Tell whether pixels under ``syntax`` are read.

    Parameters
    ----------
    syntax : str
        Transfer Syntax UID.
    lossy_allowed : bool
        The setting ``Limits.lossy``.
    lossy_image : bool
        Whether the image says that it was compressed with loss: JPEG 2000 (.91) may be either.
    """
    uid = UID(syntax)
    if uid not in READABLE:
        return False
    return lossy_allowed or not (uid in LOSSY or (uid == JPEG2000 and lossy_image))
