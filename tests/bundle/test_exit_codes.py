from __future__ import annotations

from collections.abc import Callable

import pytest

from covid_ct_mask_net.errors import ExitCode, UsageError
from covid_ct_mask_net.exit_codes import INTERRUPTED, exit_code


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def test_the_code_of_the_work() -> None:
    assert exit_code(lambda: ExitCode.OUTPUT_FAILED, debug=False, advice="Report it.") == 6


def test_what_is_expected_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(UsageError("SETTING", "It is so.")), debug=True, advice="Report it.") == 2
    assert capsys.readouterr().err == "SETTING: It is so.\n"


def test_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(KeyboardInterrupt()), debug=True, advice="Report it.") == INTERRUPTED
    assert capsys.readouterr().err.startswith("Interrupted")


@pytest.mark.parametrize("debug", [False, True])
def test_a_defect_is_internal(capsys: pytest.CaptureFixture[str], debug: bool) -> None:
    error = ZeroDivisionError("/data/patient")
    assert exit_code(raising(error), debug=debug, advice="Report it.") == ExitCode.INTERNAL
    told = capsys.readouterr().err
    assert told.endswith("ZeroDivisionError; this is a defect of the software. Report it.\n")
    assert ("Traceback" in told) is ("/data/patient" in told) is debug


def _wrapped(error: Exception) -> Exception:
    outer = RuntimeError("applying transform")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        _wrapped(MemoryError("Unable to allocate 3.1 GiB for /data/patient")),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."
        ),
    ],
)
def test_too_little_memory_is_no_defect(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(error), debug=True, advice="Report it.") == ExitCode.INTERNAL
    told = capsys.readouterr().err
    assert told.startswith("OUT_OF_MEMORY: The memory of this computer does not suffice")
    assert told.count("\n") == 1
    assert "defect" not in told
