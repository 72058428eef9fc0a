"""Every code is listed: dicom_conformance.md has those of studies and files, deployment.md those of runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "dicom_conformance.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[A-Z]{5,})`")
# What ends in a result, with the code as first argument.
VERDICTS = {"NotAssessableError", "RefusedInputError", "FileRefusedError", "InternalError", "Reason"}
# What ends a run, and with which exit code.
ENDS = {
    2: {"UsageError"},
    5: {"UntrustedModelError"},
    6: {"OutputError", "AssociationError"},
    70: {"CovidCTMaskNetError", "PackagingError", "ReaderStartError"},
}
# Of the bundle's own reader; its page lists them (bundle/docs/README.md).
NIFTI = "NIFTI_"


def trees() -> Iterator[ast.AST]:
    for part in ("app", "bundle/covid_ct_mask_net", "transforms"):
        for path in (ROOT / part).rglob("*.py"):
            yield ast.parse(path.read_text(encoding="utf-8"))


def texts(nodes: Iterator[ast.AST]) -> set[str]:
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def codes(tree: ast.AST, errors: set[str]) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors:
            yield from ast.walk(node.args[0]) if node.args else ()


def test_each_code_is_listed() -> None:
    raised = {code for tree in trees() for code in texts(codes(tree, VERDICTS))}
    assert len(raised) > 50
    nifti = {code for code in raised if code.startswith(NIFTI)}
    assert raised - nifti <= set(CODE.findall(PAGE))
    assert nifti <= set(CODE.findall((ROOT / "bundle" / "docs" / "README.md").read_text(encoding="utf-8")))


def test_each_listed_code_is_there() -> None:
    table = [
        line
        for line in PAGE.splitlines()
        if re.match(r"\| (assessed|not assessed|refused|failed|no verdict)", line)
    ]
    listed = {code for line in table for code in CODE.findall(line)}
    assert len(listed) > 60
    assert listed <= {text for tree in trees() for text in texts(ast.walk(tree))}


@pytest.mark.parametrize("exit_code", ENDS)
def test_codes_of_runs_are_those_listed_under_their_exit_code(exit_code: int) -> None:
    found = {code for tree in trees() for code in texts(codes(tree, ENDS[exit_code])) if code.isupper()}
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2] for line in page.splitlines() if line.startswith(f"| {exit_code}, ")]
    listed = [code for row in rows for code in re.findall(r"`([A-Z_]+)`", row)]
    assert sorted(listed) == sorted(found)
