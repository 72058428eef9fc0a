from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from covid_ct_mask_net.app.codestreams import FrameHeader, jpeg_2000_frame_header, jpeg_frame_header

IMAGE = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30)


@pytest.mark.parametrize(
    "stream",
    [imagecodecs.ljpeg_encode(IMAGE, bitspersample=16), imagecodecs.jpegls_encode(IMAGE)],
    ids=["JPEG Lossless", "JPEG-LS"],
)
def test_jpeg_frame_headers(stream: bytes) -> None:
    found = jpeg_frame_header(bytes(stream))
    assert found is not None
    assert (found.rows, found.columns, found.components) == (40, 30, 1)
    assert found.precision > 8
    assert found.reversible


def test_lossy_jpeg_is_told_from_lossless() -> None:
    stream = bytes(imagecodecs.jpeg8_encode((IMAGE % 256).astype(np.uint8)))
    assert jpeg_frame_header(stream) == FrameHeader(40, 30, 1, 8, reversible=False)


@pytest.mark.parametrize("reversible", [True, False])
@pytest.mark.parametrize("container", ["j2k", "jp2"])
def test_jpeg_2000_frame_headers(reversible: bool, container: str) -> None:
    options = {"reversible": True} if reversible else {"level": 40}
    stream = imagecodecs.jpeg2k_encode(IMAGE, codecformat=container, **options)
    assert jpeg_2000_frame_header(bytes(stream)) == FrameHeader(40, 30, 1, 16, reversible)


@pytest.mark.parametrize(
    "junk", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc3\x00", b"\xff" * 100, b"\xff\x4f\xff\x51"]
)
def test_junk_has_no_frame_header(junk: bytes) -> None:
    assert jpeg_frame_header(junk) is None
    assert jpeg_2000_frame_header(junk) is None


def test_cut_streams_end_in_a_header_or_nothing() -> None:
    whole = bytes(imagecodecs.ljpeg_encode(IMAGE, bitspersample=16))
    expected = jpeg_frame_header(whole)
    assert {jpeg_frame_header(whole[:length]) for length in range(len(whole))} <= {expected, None}
