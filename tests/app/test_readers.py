"""Processes that read untrusted files, and what they cannot do to the one that asks them.

Requirements: REQ-REFUSE-2, REQ-LIMITS-1.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tracemalloc
import venv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from builders.bombs import deflate_bomb, nifti_bomb
from builders.chest import make_chest
from builders.dicom import make_ct_series, phantom_hu
from builders.memory import descendants, high_water_kb
from covid_ct_mask_net.app import headers, intake, pixels
from covid_ct_mask_net.app.bundle_archive import package_folder
from covid_ct_mask_net.app.headers import FileRefusedError
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.readers import Readers, ReaderStartError
from covid_ct_mask_net.errors import ExitCode, RefusedInputError
from covid_ct_mask_net.nifti_file import LoadNiftid

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


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_nifti_volumes_are_those_read_in_this_process(tmp_path: Path, name: str) -> None:
    chest = make_chest(spacing=(4.0, 4.0, 10.0))
    image = nibabel.Nifti1Image(chest.hu, chest.affine)
    image.to_filename(tmp_path / name)
    expected = LoadNiftid("volume")({"volume": tmp_path / name})["volume"]
    with Readers(Limits(), 1) as readers:
        for _ in range(2):
            with readers.nifti(tmp_path / name, Limits().nifti):
                pass  # Left before it is read: the next one begins anew.
            load = LoadNiftid("volume", Limits().nifti, readers.nifti)
            found = load({"volume": tmp_path / name})["volume"]
            assert torch.equal(found.as_tensor(), expected.as_tensor())
            assert torch.equal(found.affine, expected.affine)


def test_a_refused_nifti_file_costs_no_reader(tmp_path: Path) -> None:
    chest = make_chest(spacing=(8.0, 8.0, 20.0))
    good, bad = tmp_path / "good.nii.gz", tmp_path / "bad.nii.gz"
    nibabel.Nifti1Image(chest.hu, chest.affine).to_filename(good)
    bad.write_bytes(good.read_bytes()[:-400])
    with Readers(Limits(), 1) as readers:
        load = LoadNiftid("volume", Limits().nifti, readers.nifti)
        others = descendants(os.getpid())
        load({"volume": good})
        (reader,) = set(descendants(os.getpid())) - set(others)
        with pytest.raises(RefusedInputError) as caught:
            load({"volume": bad})
        assert caught.value.code == "NIFTI_TRUNCATED"
        load({"volume": good})
        assert set(descendants(os.getpid())) - set(others) == {reader}


_LYING = """
import json
from covid_ct_mask_net.app import reader_process
answers = iter({answers})
class Lying:
    def __init__(self, limits): pass
    def answer(self, request): return reader_process.NIFTI + next(answers)
reader_process.NiftiAnswers = Lying
reader_process.main()
"""
_HEADER = {"shape": [4, 4, 4], "dtype": "<i2", "slope": None, "intercept": None, "affine": np.eye(4).tolist()}


@pytest.mark.parametrize(
    ("header", "pieces", "code"),
    [
        (_HEADER, [bytes(128), bytes(1)], "NIFTI_UNREADABLE"),
        (_HEADER, [bytes(100), b""], "NIFTI_UNREADABLE"),
        ({**_HEADER, "dtype": "O"}, [], "NIFTI_UNREADABLE"),
        ({**_HEADER, "dtype": "V800"}, [], "NIFTI_UNREADABLE"),
        ({**_HEADER, "affine": [[0.0] * 4] * 4}, [], "NIFTI_UNREADABLE"),
        ({**_HEADER, "shape": [4, -4, 4]}, [], "NIFTI_UNREADABLE"),
        ({**_HEADER, "shape": [4, 4]}, [], "NIFTI_UNREADABLE"),
        ({**_HEADER, "shape": [3001, 4, 4]}, [], "NIFTI_SIZE"),
        ([], [], "NIFTI_UNREADABLE"),
    ],
)
def test_a_reader_that_was_taken_over_can_only_be_wrong(
    tmp_path: Path, header: object, pieces: list[bytes], code: str
) -> None:
    """What it answers is checked before memory is made for it."""
    answers = [json.dumps(header).encode(), *pieces]
    command = (sys.executable, "-c", _LYING.format(answers=answers))
    with Readers(Limits(), 1, command) as readers, pytest.raises(RefusedInputError) as caught:
        LoadNiftid("volume", Limits().nifti, readers.nifti)({"volume": tmp_path / "ct.nii"})
    assert caught.value.code == code


BOMB_MB = 200.0


def reader_mb(others: list[int]) -> float:
    """Most memory of the one reader that is not among other tests' processes."""
    (reader,) = set(descendants(os.getpid())) - set(others)
    return high_water_kb(reader) / 1024


def test_a_deflate_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    """300 kB that would become 300 MB, in a reader that holds less than 200 MB from its start to its end."""
    (path,) = make_ct_series(tmp_path, hu=phantom_hu((1, 80, 64)))
    deflate_bomb(path, 300)
    assert path.stat().st_size < 320_000
    others = descendants(os.getpid())
    with Readers(Limits(), 1) as readers:
        with pytest.raises(FileRefusedError) as caught:
            readers.header(path, Limits())
        assert caught.value.code == "TRANSFER_SYNTAX"
        assert reader_mb(others) < BOMB_MB


@pytest.mark.parametrize("shape", [(512, 512, 400), (16, 16, 4)], ids=["as it says", "behind a small volume"])
def test_a_nifti_bomb_is_refused_in_little_memory(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """204 kB that would become 210 MB: neither the reader nor this process takes memory for it."""
    path = tmp_path / "ct.nii.gz"
    nifti_bomb(path, np.diag([-1.0, -1.0, 2.0, 1.0]), shape)
    assert path.stat().st_size < 210_000
    others = descendants(os.getpid())
    with Readers(Limits(), 1) as readers:
        tracemalloc.start()
        try:
            with pytest.raises(RefusedInputError) as caught:
                LoadNiftid("volume", Limits().nifti, readers.nifti)({"volume": path})
            here_mb = tracemalloc.get_traced_memory()[1] / 1024**2
        finally:
            tracemalloc.stop()
        assert caught.value.code == "NIFTI_SIZE"
        assert reader_mb(others) < BOMB_MB
        assert here_mb < 20.0


def test_refusals_come_through(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no DICOM " * 50)
    with Readers(Limits(), 1) as readers, pytest.raises(FileRefusedError) as caught:
        readers.header(tmp_path / "text", Limits())
    assert caught.value.code == "NOT_DICOM"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"ended unexpectedly \(SIGSEGV\)"),
        ("raise SystemError('Müller^A')", r"ended unexpectedly \(exit code 1, SystemError\)"),
        ("time.sleep(600)", "longer than 1 s"),
        ("return bytearray(8 * 1024**3)", "read_memory_bytes"),
    ],
    ids=["segfault", "exception", "hang", "memory"],
)
def test_row_19_a_decoder_that_crashes_hangs_or_grows_costs_one_file(
    tmp_path: Path, what: str, words: str, caplog: pytest.LogCaptureFixture
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
    if "read_memory_bytes" not in words:
        (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert record.getMessage().startswith("The reader ")
        assert "Müller" not in caplog.text + caught.value.sentence, "messages may quote the file"


def test_what_a_decoder_says_does_not_stop_it(tmp_path: Path) -> None:
    """Native decoders warn on standard error, once a frame, and a pipe holds 64 kB."""
    make_ct_series(tmp_path, hu=phantom_hu((1, 80, 64)))
    (series,) = intake.scan([tmp_path]).studies[0].series
    read = "stored_values = pixels.stored_values\n"
    talkative = _BROKEN.replace("pixels.stored_values = broken", read + "pixels.stored_values = broken")
    talkative = talkative.format(what="os.write(2, b'warning ' * 100_000); return stored_values(*_, **__)")
    with Readers(Limits(), 1, (sys.executable, "-c", talkative)) as readers:
        values = readers.stored_values(series.instances[0], Limits())
    np.testing.assert_array_equal(values, pixels.stored_values(series.instances[0], Limits()))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/no/such/python",), "/no/such/python: No such file"),
        ((sys.executable, "-c", "import no_such_package"), "No module named 'no_such_package'"),
        ((sys.executable, "-c", ""), "exit code 0"),
        (
            (sys.executable, "-c", "import os; os.write(1, bytes(7) + b'\\1x'); input()"),
            "before it was asked",
        ),
    ],
    ids=["no program", "no package", "nothing said", "another program"],
)
def test_readers_that_do_not_start_are_not_the_fault_of_a_file(
    tmp_path: Path, command: tuple[str, ...], words: str
) -> None:
    make_ct_series(tmp_path, hu=phantom_hu((2, 80, 64)))
    with Readers(Limits(), 1, command) as readers, pytest.raises(ReaderStartError, match=words) as caught:
        intake.scan([tmp_path], read_header=readers.header)
    assert (caught.value.code, caught.value.exit_code) == ("READER_START", ExitCode.INTERNAL)


def test_a_reader_finds_packages_where_this_process_found_them(tmp_path: Path) -> None:
    """In a MAP they lie in the home folder of the image's user, and the process has been given another."""
    (file,) = make_ct_series(tmp_path / "study", hu=phantom_hu((1, 80, 64)))
    venv.create(tmp_path / "bare", symlinks=True)
    paths = [path for path in sys.path if path.endswith("site-packages")]
    package = tmp_path / "app" / "covid_ct_mask_net"
    shutil.copytree(package_folder("covid_ct_mask_net"), package)
    shutil.copytree(package_folder("covid_ct_mask_net.app"), package / "app", dirs_exist_ok=True)
    program = f"""
import sys
from pathlib import Path
sys.path += {[str(package.parent), *paths]!r}
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.readers import Readers
with Readers(Limits(), 1) as readers:
    sys.stdout.write(str(readers.header(Path({str(file)!r}), Limits()).Rows))
"""
    done = subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-c", program],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert (done.returncode, done.stdout) == (0, "80"), done.stderr
