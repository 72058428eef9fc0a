"""Each promise names tests that exist, and each bad input of the catalogue has its test."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROMISES = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
CATALOGUE = (ROOT / "docs" / "bad_inputs.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
ROWS = re.findall(r"^\| (F?\d+) \| (.*) \| (.*) \|$", CATALOGUE, re.MULTILINE)
CODE = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)`")
SOURCES = [*(ROOT / "tests" / "bad_inputs").glob("test_*.py"), ROOT / "tests" / "app" / "test_readers.py"]


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_promise_names_a_test_that_is_there() -> None:
    rows = re.findall(r"^\| (\d+) \| .+ \| (.+) \|$", PROMISES, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 13))
    for number, tests in rows:
        named = NAMED.findall(tests)
        assert named, f"promise {number} names no test"
        for path, name in named:
            assert name in functions(ROOT / path), f"{path}::{name}"


def test_the_readme_leads_to_the_promises() -> None:
    assert "docs/promises.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_catalogue_is_whole() -> None:
    numbers = [number for number, _, _ in ROWS]
    assert numbers[:75] == [str(number) for number in range(1, 76)]
    assert numbers[75:] == [f"F{number}" for number in range(1, len(numbers) - 74)]


@functools.cache
def rows_with_a_case() -> set[str]:
    """Rows with a case: functions ``test_row_N_...`` and keys ``"N-..."`` of the tables of cases."""
    found: set[str] = set()
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (row := re.match(r"test_row_(f?\d+)_", node.name)):
                found.add(row[1].upper())
            for name in _keys(node):
                if row := re.match(r"(F?\d+)-", _label(name)):
                    found.add(row[1])
    return found


def _keys(node: ast.AST) -> list[ast.expr | None]:
    if isinstance(node, ast.Dict):
        return list(node.keys)
    return [node.key] if isinstance(node, ast.DictComp) else []


def _label(key: ast.expr | None) -> str:
    if isinstance(key, ast.Constant):
        return str(key.value)
    if isinstance(key, ast.JoinedStr) and isinstance(key.values[0], ast.Constant):
        return str(key.values[0].value)
    return ""


@pytest.mark.parametrize("row", ROWS, ids=[number for number, _, _ in ROWS])
def test_each_row_has_a_case(row: tuple[str, str, str]) -> None:
    assert row[0] in rows_with_a_case()


@pytest.mark.parametrize("row", ROWS, ids=[number for number, _, _ in ROWS])
def test_codes_of_a_row_stand_in_the_cases(row: tuple[str, str, str]) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert [code for code in CODE.findall(row[2]) if code not in text] == []
