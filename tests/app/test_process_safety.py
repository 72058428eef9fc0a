"""A process ends within seconds of SIGTERM, in Python code and in native code. Requirement: REQ-OUTPUT-4."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest

from covid_ct_mask_net.app.process_safety import settled_process

_PROGRAM = """
import os, resource, sys, time
from covid_ct_mask_net.app.process_safety import settled_process
with settled_process(grace_seconds=1.0):
    print(resource.getrlimit(resource.RLIMIT_CORE)[0], oct(os.umask(0)), flush=True)
    try:
        {work}
    finally:
        print("cleaned up", flush=True)
"""
_PYTHON = "time.sleep(60)"
# Minutes in native code, without the interpreter lock, as in a convolution: handlers wait for its end.
_NATIVE = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"


def _ended(work: str) -> tuple[int, str, float]:
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(work=work)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"0 0o77\n"
        time.sleep(0.3)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
        return process.returncode, said.decode(), time.monotonic() - start


def test_python_code_cleans_up_and_ends_at_once() -> None:
    code, said, seconds = _ended(_PYTHON)
    assert (code, said) == (143, "cleaned up\n")
    assert seconds < 3.0


def test_native_code_ends_after_the_grace_period() -> None:
    code, said, seconds = _ended(_NATIVE)
    assert (code, said) == (143, "")
    assert 0.9 < seconds < 5.0


def _settings() -> tuple[object, ...]:
    mask = os.umask(0)
    os.umask(mask)
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return mask, resource.getrlimit(resource.RLIMIT_CORE), signal.getsignal(signal.SIGTERM), wakeup


def _watchers() -> int:
    return sum(thread.name == "termination" for thread in threading.enumerate())


@pytest.mark.parametrize("error", [None, ValueError])
def test_a_program_that_goes_on_is_as_it_was_before(error: type[Exception] | None) -> None:
    before, descriptors = _settings(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    watchers = _watchers()
    try:
        with settled_process():
            assert _settings() != before
            assert _watchers() == watchers + 1
            if error is not None:
                raise error
    except ValueError:
        assert error is not None
    assert _settings() == before
    deadline = time.monotonic() + 10.0
    while _watchers() > watchers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _watchers() == watchers
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
