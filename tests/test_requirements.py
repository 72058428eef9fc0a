"""Requirements and the tests that show them name each other."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ID = re.compile(r"\bREQ-[A-Z]+-\d+\b")


def _in_tests() -> set[str]:
    files = (path for path in TESTS.rglob("test_*.py") if path != Path(__file__).resolve())
    return {found for path in files for found in ID.findall(path.read_text(encoding="utf-8"))}


def test_each_requirement_has_a_test_and_each_id_a_requirement() -> None:
    page = (TESTS.parent / "docs" / "requirements.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (REQ-[A-Z]+-\d+) \|", page, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == _in_tests()
