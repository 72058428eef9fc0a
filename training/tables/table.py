"""A table that is written as Markdown for people and as CSV for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.files import csv_text, write_text
from covid_ct_mask_net.training.metrics.bootstrap import Interval

MISSING = "–"


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes
    ----------
    name
        File name without suffix: ``table-4``.
    title
        One line, for people.
    columns
        Headings.
    rows
        Cells, one a column.
    notes
        Sentences below the table: what is missing, not comparable or inconsistent in the source.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise UsageError(
                "TABLE", f"A row of {self.name} has {len(wrong[0])} cells for {len(self.columns)} columns."
            )

    def to_markdown(self) -> str:
        """Return the table as GitHub's Markdown, with title and notes."""
        lines = [f"## {self.title}", ""]
        if self.rows:
            lines += [_markdown_row(self.columns), _markdown_row(["---"] * len(self.columns))]
            lines += [_markdown_row(row) for row in self.rows]
            lines.append("")
        lines += [f"- {note}" for note in self.notes]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write ``NAME.md`` and ``NAME.csv``; the notes are in the Markdown file only."""
        return [
            write_text(folder / f"{self.name}.md", self.to_markdown()),
            write_text(folder / f"{self.name}.csv", csv_text([self.columns, *self.rows])),
        ]


def percent(value: float | None, digits: int = 2) -> str:
    """Return a share in [0, 1] as ``91.66``; a dash where there is none."""
    return MISSING if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with fixed digits; a dash where there is none."""
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent_interval(interval: Interval) -> str:
    """Return ``91.66 (89.90–93.20)``: estimate and 95 % interval in percent."""
    if math.isnan(interval.low):
        return percent(interval.estimate)
    return f"{percent(interval.estimate)} ({percent(interval.low)}–{percent(interval.high)})"


def compared(interval: Interval, published: float | None, same_data: bool) -> str:
    """Return the difference of ours to a published share, in points, flagged.

    Parameters
    ----------
    interval : Interval
        Ours.
    published : float, optional
    same_data : bool
        Whether both are of the same slices; otherwise the difference says nothing, and that is said.
    """
    if published is None or math.isnan(interval.estimate):
        return MISSING
    difference = 100 * (interval.estimate - published)
    if not same_data:
        return f"{difference:+.2f} (other slices)"
    return f"{difference:+.2f}" + ("" if published in interval else " *differs*")


def millions(count: float | None) -> str:
    """Return a number of parameters as ``31.78M``."""
    return MISSING if count is None else f"{count / 1e6:.2f}M"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
