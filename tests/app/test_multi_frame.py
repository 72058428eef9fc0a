"""Multi-frame files are read once: each frame by itself.

Requirements: REQ-LIMITS-1, REQ-REFUSE-1.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

from builders.dicom import make_enhanced_ct, phantom_hu, write
from builders.memory import descendants
from covid_ct_mask_net.app import intake, pixels
from covid_ct_mask_net.app.frames import frames_of
from covid_ct_mask_net.app.headers import FileRefusedError
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.readers import Readers

SHAPE = (12, 80, 64)


def compress(dataset: Dataset, *, table: bool = True, fragments: int = 1) -> None:
    shape = (int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns))
    frames = np.frombuffer(dataset.PixelData, "<u2").reshape(shape)
    streams = [imagecodecs.jpegls_encode(frame) for frame in frames]
    dataset.PixelData = encapsulate(streams, fragments_per_frame=fragments, has_bot=table)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def stored_as(
    folder: Path,
    syntax: str,
    edit: Callable[[Dataset], None] | None = None,
    shape: tuple[int, int, int] = SHAPE,
) -> Path:
    folder.mkdir()
    noise = np.random.default_rng(1).integers(-200, 200, shape) * 2
    dataset = pydicom.dcmread(make_enhanced_ct(folder, hu=phantom_hu(shape) + noise * (shape != SHAPE)))
    del dataset.file_meta
    if edit is not None:
        edit(dataset)
    (folder / "enhanced.dcm").unlink()
    if syntax == JPEGLSLossless:
        # The builder compresses single frames; what is compressed already goes through a native syntax.
        path = write(dataset, folder / "enhanced.dcm", ExplicitVRLittleEndian)
        file = pydicom.dcmread(path)
        file.file_meta.TransferSyntaxUID = JPEGLSLossless
        file["PixelData"].is_undefined_length = True
        file.save_as(path)
        return path
    return write(dataset, folder / "enhanced.dcm", syntax)


CASES: dict[str, tuple[str, Callable[[Dataset], None] | None]] = {
    "explicit": (ExplicitVRLittleEndian, None),
    "implicit": (ImplicitVRLittleEndian, None),
    "big endian": (ExplicitVRBigEndian, None),
    "deflated": (DeflatedExplicitVRLittleEndian, None),
    "compressed": (JPEGLSLossless, compress),
    "without a table": (JPEGLSLossless, lambda dataset: compress(dataset, table=False)),
    "two fragments a frame": (JPEGLSLossless, lambda dataset: compress(dataset, fragments=2)),
    "two fragments, no table": (
        JPEGLSLossless,
        lambda dataset: compress(dataset, table=False, fragments=2),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_frame_in_every_form_is_the_one_that_was_stored(tmp_path: Path, case: str) -> None:
    stored_as(tmp_path / "in", *CASES[case])
    (series,) = intake.scan([tmp_path / "in"]).studies[0].series
    frames = frames_of(series)
    assert len(frames) == SHAPE[0]
    with Readers(Limits(), 1) as readers:
        for frame, expected in zip(frames, phantom_hu(SHAPE)[::-1], strict=True):
            np.testing.assert_array_equal(frame.decode(Limits()), expected)
            np.testing.assert_array_equal(frame.decode(Limits(), readers.stored_values), expected)


@pytest.mark.parametrize("case", ["explicit", "compressed", "without a table"])
def test_a_reader_reads_a_file_once_not_once_a_frame(tmp_path: Path, case: str) -> None:
    path = stored_as(tmp_path / "in", *CASES[case], shape=(40, 256, 256))
    (series,) = intake.scan([tmp_path / "in"]).studies[0].series
    others = set(descendants(os.getpid()))
    frames = frames_of(series)
    with Readers(Limits(), 1) as readers:
        readers.header(path, Limits())
        (reader,) = set(descendants(os.getpid())) - others
        before = bytes_read(reader)
        for frame in frames:
            frame.decode(Limits(), readers.stored_values)
        found = bytes_read(reader) - before
    # Once, what is read ahead of each frame, and modules that are imported by and by.
    most = path.stat().st_size + 16 * 1024 * len(frames) + 3_000_000
    assert path.stat().st_size * len(frames) > 5 * most, "the file is too small to tell"
    assert found < most


def bytes_read(pid: int) -> int:
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def test_a_file_that_ends_too_early_is_refused_frame_by_frame(tmp_path: Path) -> None:
    path = stored_as(tmp_path / "in", ExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-500])
    (series,) = intake.scan([tmp_path / "in"]).studies[0].series
    with pytest.raises(FileRefusedError) as caught:
        pixels.stored_values(series.instances[0], Limits(), frame=0)
    assert caught.value.code == "PIXEL_LENGTH"


def test_compressed_frames_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    path = stored_as(tmp_path / "in", *CASES["without a table"])
    path.write_bytes(path.read_bytes()[:-500])
    (series,) = intake.scan([tmp_path / "in"]).studies[0].series
    with pytest.raises(FileRefusedError) as caught:
        pixels.stored_values(series.instances[0], Limits(), frame=SHAPE[0] - 1)
    assert caught.value.code == "PIXEL_LENGTH"
