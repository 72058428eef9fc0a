"""The search for patients' texts in what the suite shows can fail. Requirement: REQ-PRIVACY-1."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from builders.patient_data import SENTINELS
from builders.planted import TOKEN

HEAD = """
import logging, subprocess, sys, pytest
def said_by(program, **named):
    program = [*program, "print('name ' + 'ZZ' + 'PHI')"]
    return subprocess.run(program, capture_output=True, check=True, **named)
@pytest.fixture
def early(): print("TOKEN")
@pytest.fixture
def late():
    yield
    print("TOKEN")
"""
SHOWING = {
    "printed": "def test(): print('name TOKEN')",
    "on_standard_error": "def test(): sys.stderr.write('name TOKEN')",
    "logged": "def test(): logging.getLogger('x').warning('name %s', 'TOKEN')",
    "in_a_fixture": "def test(early): pass",
    "after_the_test": "def test(late): pass",
    "taken": "def test(capsys): print('TOKEN'); assert capsys.readouterr().out",
    "said_by_a_program": "def test(): said_by([sys.executable, '-c'], text=True)",
    "said_by_a_program_in_bytes": "def test(): said_by([sys.executable, '-c'])",
    "in_a_text": "def test(tmp_path): (tmp_path / 'run.json').write_text('PATIENT-1')",
    "in_a_file_name": "def test(tmp_path): (tmp_path / 'run.json').touch(); (tmp_path / 'TOKEN.png').touch()",
}
QUIET = {
    "nothing": "def test(capsys): print('done'); assert capsys.readouterr().out",
    "in_a_DICOM_result": "def test(tmp_path):\n"
    "    (tmp_path / 'run.json').touch(); (tmp_path / 'sr.dcm').write_text('TOKEN')",
    "in_an_input": "def test(tmp_path): (tmp_path / 'TOKEN.dcm').write_text('TOKEN')",
    "said_by_a_validator": "def test(): said_by(['env', sys.executable, '-c'])",
    "on_purpose": "@pytest.mark.shows_patients('why')\ndef test(): print('TOKEN')",
}


def outcomes(folder: Path, sources: dict[str, str]) -> dict[str, str]:
    """Run a test file with the search, and nothing else of this suite's configuration."""
    tests = [source.replace("def test(", f"def test_{name}(") for name, source in sources.items()]
    (folder / "test_one.py").write_text("\n".join([HEAD, *tests, ""]).replace("TOKEN", TOKEN))
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "builders.patient_data"]
    environment = {
        **os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # fmt: skip
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    found = re.findall(r"^(PASSED|FAILED|ERROR) test_one.py::test_(\w+)", done.stdout, re.MULTILINE)
    assert len({name for _, name in found}) == len(sources), done.stdout + done.stderr
    return {name: outcome for outcome, name in sorted(found, reverse=True)}


@pytest.mark.shows_patients("the report of the tests within")
def test_tests_that_show_a_patient_fail(tmp_path: Path) -> None:
    found = outcomes(tmp_path, SHOWING)
    assert {name for name, outcome in found.items() if outcome == "PASSED"} == set()


@pytest.mark.shows_patients("the report of the tests within")
def test_tests_that_show_none_pass(tmp_path: Path) -> None:
    assert set(outcomes(tmp_path, QUIET).values()) == {"PASSED"}


def test_the_suite_itself_is_searched(request: pytest.FixtureRequest) -> None:
    """The hooks are those of the conftest, and the patients those of the builders."""
    hooks = request.config.hook.pytest_runtest_makereport.get_hookimpls()
    assert any(hook.function.__module__ == "builders.patient_data" for hook in hooks)
    from builders import dicom

    source = Path(dicom.__file__).read_text(encoding="utf-8")
    assert all(sentinel in source for sentinel in SENTINELS if sentinel != TOKEN)
