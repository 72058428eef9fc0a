from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from builders.dicom import make_ct_series, phantom_hu
from covid_ct_mask_net.app import headers, intake, pixels
from covid_ct_mask_net.app.headers import FileRefusedError
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.readers import Readers

# A reader in which one thing goes wrong.
_BROKEN = """
import os, signal, time
from covid_ct_mask_net.app import pixels, reader_process
def broken(*_, **__):
    {what}
pixels.stored_values = broken
reader_process.main()
"""


def test_headers_and_pixels_are_those_read_in_this_process(tmp_path: Path) -> None:
    files = make_ct_series(tmp_path, hu=phantom_hu((3, 80, 64)), patient_name="Müller^A")
    limits = Limits()
    with Readers(limits, 1) as readers:
        for file in files:
            assert readers.header(file, limits) == headers.read(file, limits)
        (series,) = intake.scan([tmp_path], limits, read_header=readers.header).studies[0].series
        for instance in series.instances:
            expected = pixels.stored_values(instance, limits)
            np.testing.assert_array_equal(readers.stored_values(instance, limits), expected)


def test_refusals_come_through(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no DICOM " * 50)
    with Readers(Limits(), 1) as readers, pytest.raises(FileRefusedError) as caught:
        readers.header(tmp_path / "text", Limits())
    assert caught.value.code == "NOT_DICOM"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended unexpectedly"),
        ("time.sleep(600)", "longer than 1 s"),
        ("return bytearray(8 * 1024**3)", "read_memory_bytes"),
    ],
    ids=["segfault", "hang", "memory"],
)
def test_row_19_a_decoder_that_crashes_hangs_or_grows_costs_one_file(
    tmp_path: Path, what: str, words: str
) -> None:
    make_ct_series(tmp_path, hu=phantom_hu((1, 80, 64)))
    limits = Limits(read_seconds=1)
    (series,) = intake.scan([tmp_path]).studies[0].series
    command = (sys.executable, "-c", _BROKEN.format(what=what))
    with Readers(limits, 1, command) as readers:
        header = readers.header(series.instances[0].path, limits)
        with pytest.raises(FileRefusedError, match=words) as caught:
            readers.stored_values(series.instances[0], limits)
        assert caught.value.code in ("PIXEL_DECODE", "READ_MEMORY")
        # The next file is read by a new reader.
        assert readers.header(series.instances[0].path, limits) == header
