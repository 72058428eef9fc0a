from __future__ import annotations

import pytest
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
)

from covid_ct_mask_net.app.transfer_syntaxes import is_readable


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, JPEGLosslessSV1, JPEG2000])
def test_lossless_syntaxes_are_read(syntax: str) -> None:
    assert is_readable(syntax, lossy_allowed=False)


@pytest.mark.parametrize("syntax", [JPEGExtended12Bit, JPEGLSNearLossless])
def test_lossy_syntaxes_are_read_only_when_allowed(syntax: str) -> None:
    assert not is_readable(syntax, lossy_allowed=False)
    assert is_readable(syntax, lossy_allowed=True)


def test_jpeg_2000_is_judged_by_what_the_image_says() -> None:
    assert not is_readable(JPEG2000, lossy_allowed=False, lossy_image=True)
    assert is_readable(JPEG2000, lossy_allowed=True, lossy_image=True)


@pytest.mark.parametrize("syntax", [MPEG2MPML, HTJ2KLossless, "1.2.3.4"])
def test_the_rest_is_never_read(syntax: str) -> None:
    assert not is_readable(syntax, lossy_allowed=True)
