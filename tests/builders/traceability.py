"""Which tests show which requirement, and how they ended: ``pytest --traceability FILE`` writes it as CSV.

A test shows the requirements (docs/requirements.md) that the docstring of its file names, and those that its
own docstring names. With pytest-xdist the process that collects the reports writes.
"""

from __future__ import annotations

import ast
import csv
import functools
import re
import subprocess
from pathlib import Path

import pytest

ID = re.compile(r"\bREQ-[A-Z]+-\d+\b")
FIELDS = ("requirement", "test", "outcome", "commit")
_WORST = ("failed", "skipped", "passed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--traceability",
        type=Path,
        metavar="FILE",
        help="write which tests of this run show which requirement, and how they ended, as CSV",
    )


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--traceability")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Traceability(path.resolve(), config.rootpath))


class Traceability:
    """Takes note of how tests end and writes the table when the session does."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.root = root
        self._outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        earlier = self._outcomes.get(report.nodeid, "passed")
        self._outcomes[report.nodeid] = min(earlier, report.outcome, key=_WORST.index)

    def pytest_sessionfinish(self) -> None:
        commit = _commit(self.root)
        rows = sorted(
            (requirement, test, outcome, commit)
            for test, outcome in self._outcomes.items()
            for requirement in shown_by(self.root, test)
        )
        with self.path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(FIELDS)
            writer.writerows(rows)
            # A requirement that this run says nothing about is said to be so.
            silent = defined(self.root) - {row[0] for row in rows}
            writer.writerows((requirement, "", "not run", commit) for requirement in sorted(silent))


def defined(root: Path) -> set[str]:
    """Return the ids that docs/requirements.md defines."""
    page = root / "docs" / "requirements.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    return set(re.findall(r"^\| (REQ-[A-Z]+-\d+) \|", text, re.MULTILINE))


def shown_by(root: Path, test: str) -> set[str]:
    """Return the requirements that a test, by its node id, shows."""
    path, _, name = test.partition("::")
    of_file, of_functions = _named_in(root / path)
    return of_file | of_functions.get(name.split("::")[-1].split("[")[0], set())


@functools.cache
def _named_in(path: Path) -> tuple[set[str], dict[str, set[str]]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    of_functions = {node.name: set(ID.findall(ast.get_docstring(node) or "")) for node in functions}
    return set(ID.findall(ast.get_docstring(tree) or "")), of_functions


def _commit(root: Path) -> str:
    """Return the commit that was tested, with "+" if files differ from it; empty outside of a checkout."""
    told = []
    for question in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        done = subprocess.run(["git", *question], cwd=root, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return ""
        told.append(done.stdout.strip())
    return told[0] + ("+" if told[1] else "")
