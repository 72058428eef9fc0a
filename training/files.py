"""Reading and writing of the small text files of run folders."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
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


class FolderReplacement:
    """Files that take the place of a whole folder once the last is written, so that none of before stays.

    Parameters
    ----------
    path : pathlib.Path
        The folder; there may be none yet.

    Attributes
    ----------
    partial
        Folder beside it, which the new files are written into.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.partial")

    def begin(self) -> None:
        """Remove what was begun before and never put in place.

        Raises
        ------
        OutputError
            ``RUN_NOT_WRITTEN``; likewise from `replace`.
        """
        self._without(self.partial)

    def replace(self) -> None:
        """Put the new files in place; where none were written, the folder goes."""
        self._without(self.path)
        if self.partial.is_dir():
            try:
                self.partial.replace(self.path)
            except OSError as error:
                raise self._failure(error) from error

    def _without(self, folder: Path) -> None:
        if folder.exists():
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise self._failure(error) from error

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(
            "RUN_NOT_WRITTEN", f"{self.path} could not be replaced: {error.strerror or error}."
        )


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
