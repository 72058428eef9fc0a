"""Lists and tables of data sets as files: lines with their numbers, so that a sentence can name the line."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError, UsageError

Row = Mapping[str, str | None]


@dataclass(frozen=True)
class Table:
    """A CSV table.

    Attributes
    ----------
    path
        Where it was read from.
    columns
        Their names, in order.
    rows
        Each with the number of its line in the file.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Row], ...]

    def lacks(self, wanted: Collection[str]) -> RefusedInputError | None:
        """Return what to raise where a column is missing, or None if all are there."""
        missing = [name for name in wanted if name not in self.columns]
        if not missing:
            return None
        return RefusedInputError(
            "LIST_FORMAT",
            f"The table {self.path} has no column {', '.join(missing)}; it has "
            f"{', '.join(self.columns) or 'none'}.",
        )


def list_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a list that are not blank, with their numbers from 1.

    Raises
    ------
    UsageError
        ``LIST_MISSING``.
    RefusedInputError
        ``LIST_FORMAT`` if it is no text, ``LIST_EMPTY``.
    """
    if not path.is_file():
        raise UsageError("LIST_MISSING", f"There is no list {path}.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise RefusedInputError("LIST_FORMAT", f"The list {path} is no text file.") from error
    if not any(line.strip() for line in lines):
        raise RefusedInputError("LIST_EMPTY", f"The list {path} has no lines.")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line


def read_table(path: Path) -> Table:
    """Return the table in a file that is there.

    Raises
    ------
    RefusedInputError
        ``LIST_FORMAT`` if it is no CSV.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            rows = tuple((reader.line_num, row) for row in reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise RefusedInputError("LIST_FORMAT", f"The table {path} is no CSV file.") from error
    return Table(path, columns, rows)
