"""Requirements and the tests that show them name each other, and a run can write down which showed which."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builders.traceability import ID, defined

TESTS = Path(__file__).resolve().parent
TINY = '''"""Shows REQ-ONE-1."""
import pytest
def test_good():
    """And REQ-TWO-1."""
@pytest.mark.parametrize("n", [1, 2])
def test_bad(n):
    assert n == 1
def test_left_out():
    pytest.skip("no reason")
'''


def _in_tests() -> set[str]:
    files = (path for path in TESTS.rglob("test_*.py") if path != Path(__file__).resolve())
    return {found for path in files for found in ID.findall(path.read_text(encoding="utf-8"))}


def test_each_requirement_has_a_test_and_each_id_a_requirement() -> None:
    page = (TESTS.parent / "docs" / "requirements.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line[:6] == "| REQ-"]
    assert len(rows) == len(set(rows))
    assert set(rows) == defined(TESTS.parent) == _in_tests()


@pytest.mark.parametrize("parallel", [(), ("-p", "xdist", "-n", "2")], ids=["one process", "xdist"])
def test_a_run_writes_which_test_showed_what(tmp_path: Path, parallel: tuple[str, ...]) -> None:
    (tmp_path / "test_one.py").write_text(TINY)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "docs").mkdir()
    rows = "".join(f"| REQ-{name}-1 | does |\n" for name in ("ONE", "TWO", "THREE"))
    (tmp_path / "docs" / "requirements.md").write_text(rows)
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "builders.traceability", *parallel]
    done = subprocess.run(
        [*command, "--traceability", "table.csv"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    with (tmp_path / "table.csv").open(newline="") as file:
        found = [(row["requirement"], row["test"], row["outcome"]) for row in csv.DictReader(file)]
    assert found == [
        ("REQ-ONE-1", "test_one.py::test_bad[1]", "passed"),
        ("REQ-ONE-1", "test_one.py::test_bad[2]", "failed"),
        ("REQ-ONE-1", "test_one.py::test_good", "passed"),
        ("REQ-ONE-1", "test_one.py::test_left_out", "skipped"),
        ("REQ-TWO-1", "test_one.py::test_good", "passed"),
        ("REQ-THREE-1", "", "not run"),
    ]
