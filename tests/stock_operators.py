"""Print what the stock operators of the App SDK and this project make of the same files, as a table.

    .venv/bin/python tests/stock_operators.py

The same cases are tests (``tests/app/test_stock_operators.py``); the table is in ``docs/stock_operators.md``.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

HEADER = "| situation | right | stock operators | this project |\n|---|---|---|---|\n"


def observe(case: object, folder: Path) -> tuple[str, str]:
    """Make the files of a case and return what the stock operators and what this project give."""
    source = folder / "in"
    case.make(source)  # type: ignore[attr-defined]
    return case.stock(source), case.ours(source)  # type: ignore[attr-defined]


def row(situation: str, right: str, stock: str, ours: str) -> str:
    return f"| {situation} | {right} | {stock} | {ours} |\n"


def table(rows: Iterable[str]) -> str:
    return HEADER + "".join(rows)


def main() -> None:
    from builders.stock_cases import CASES

    rows = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(case.situation, case.right, *observe(case, Path(folder))))
    version = importlib.metadata.version("monai-deploy-app-sdk")
    sys.stdout.write(f"monai-deploy-app-sdk {version}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
