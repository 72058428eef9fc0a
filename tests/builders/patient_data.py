"""No text of the suite's patients in anything that the suite prints, logs or writes beside the DICOM results.

Hooks of pytest, taken over by the suite's ``conftest.py``. What a test printed and logged is searched for the
names and numbers that the builders give their patients, before any filter of the product has changed a log
record; so is what it took from ``capsys`` or ``capfd``, what Python programs that it started said to it, and
every file, by name and content, of an output folder below its ``tmp_path``. A test that shows patients on
purpose says so: ``@pytest.mark.shows_patients("why")``.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

TOKEN = "ZZPHI"  # noqa: S105
# What `make_ct_series` and `make_enhanced_ct` call their patients, and the token of `planted`.
SENTINELS = (TOKEN, "Ångström", "PATIENT-1", "Enhanced^Patient")
# What tells an output folder of a run from other folders.
_MARKS = frozenset({"run.json", "worklist.json", "audit.jsonl"})
_AROUND = 60

_taken: list[str] = []


def found_in(text: str) -> str | None:
    """Return a sentinel of a text with what stands around it, or None."""
    for sentinel in SENTINELS:
        place = text.find(sentinel)
        if place >= 0:
            return repr(text[max(0, place - _AROUND) : place + len(sentinel) + _AROUND])
    return None


def named_in_outputs(folder: Path) -> Iterator[str]:
    """Yield what names a patient in the output folders below a folder; DICOM results may."""
    encoded = [sentinel.encode() for sentinel in SENTINELS]
    for parent, folders, names in os.walk(folder):
        if not _MARKS & set(names):
            continue
        for path in (p for p in Path(parent).rglob("*") if not p.is_symlink()):
            if any(sentinel in path.name for sentinel in SENTINELS):
                yield f"the name of {path.name!r}"
            # An output folder may be made unreadable by its test.
            if path.is_file() and path.suffix != ".dcm" and os.access(path, os.R_OK):
                content = path.read_bytes()
                yield from (f"{path.name}: {s.decode()}" for s in encoded if s in content)
        folders.clear()


def pytest_configure(config: pytest.Config) -> None:
    """Listen to what tests take from the capture fixtures and from programs, for pytest keeps none of it."""
    config.addinivalue_line("markers", "shows_patients(why): prints or writes texts of patients on purpose")
    take = pytest.CaptureFixture.readouterr

    def listened(fixture: pytest.CaptureFixture[Any]) -> Any:
        taken = take(fixture)
        _taken.extend(part for part in taken if isinstance(part, str))
        return taken

    pytest.CaptureFixture.readouterr = listened  # type: ignore[method-assign]
    communicate = subprocess.Popen.communicate

    def overheard(program: subprocess.Popen[Any], *arguments: Any, **named: Any) -> Any:
        said = communicate(program, *arguments, **named)
        # Validators and viewers show patients, which is what tests start them for.
        if _is_python(program.args):
            _taken.extend(
                part if isinstance(part, str) else part.decode(errors="replace") for part in said if part
            )
        return said

    subprocess.Popen.communicate = overheard  # type: ignore[method-assign]


def _is_python(command: Any) -> bool:
    first = command if isinstance(command, (str, os.PathLike)) else command[0]
    return Path(first).name.startswith(("python", "covid-ct-mask-net"))


def pytest_runtest_setup() -> None:
    _taken.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the report of a test that passed into a failure if it shows a patient."""
    report = yield
    if not report.passed or item.get_closest_marker("shows_patients") is not None:
        return report
    told = [("what was printed or logged", content) for _, content in report.sections]
    told += [("what was taken from the capture or a program", content) for content in _taken]
    shown = [f"{where}: {found}" for where, content in told if (found := found_in(content)) is not None]
    _taken.clear()
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.when == "call" and folder is not None:
        shown += [f"an output folder: {found}" for found in named_in_outputs(folder)]
    if shown:
        report.outcome = "failed"
        report.longrepr = "A patient of the builders is shown in " + "; in ".join(shown[:5])
    return report
