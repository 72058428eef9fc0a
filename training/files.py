"""Reading and writing of the small text files of run folders."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from covid_ct_mask_net.errors import OutputError, RefusedInputError


def write_text(path: Path, text: str) -> Path:
    """Write a file so that a reader sees all of it or none."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        raise OutputError("RUN_NOT_WRITTEN", f"{path} could not be written: {error.strerror}.") from error
    return path


def csv_text(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file by column name."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises
    ------
    RefusedInputError
        If the file holds anything else; the sentence names it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RefusedInputError("RUN_JSON", f"{path} is no JSON: {error}.") from error
    if not isinstance(values, dict):
        raise RefusedInputError("RUN_JSON", f"{path} holds no JSON object.")
    return values
