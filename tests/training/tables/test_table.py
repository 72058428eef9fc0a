from __future__ import annotations

import csv
from pathlib import Path

import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.metrics.bootstrap import Interval
from covid_ct_mask_net.training.tables.table import (
    Table,
    compared,
    millions,
    number,
    percent,
    percent_interval,
)

NAN = float("nan")


def test_markdown_and_csv_hold_the_same_cells(tmp_path: Path) -> None:
    table = Table("t", "A table", ("a", "b|c"), (("1", "x|y"), ("2", "")), ("A note.",))
    markdown, cells = table.write(tmp_path)
    text = markdown.read_text()
    assert text.startswith("## A table\n\n| a | b\\|c |\n| --- | --- |\n| 1 | x\\|y |\n")
    assert text.endswith("\n- A note.\n")
    with cells.open(newline="") as file:
        assert list(csv.reader(file)) == [["a", "b|c"], ["1", "x|y"], ["2", ""]]


def test_rows_have_a_cell_a_column() -> None:
    with pytest.raises(UsageError, match="A row of t has 1 cells for 2 columns"):
        Table("t", "A table", ("a", "b"), (("1",),))


def test_numbers_for_people() -> None:
    assert (percent(0.91663), percent(0.5, 0), percent(None), percent(NAN)) == ("91.66", "50", "–", "–")
    assert (number(0.3456), number(NAN), millions(31_781_917), millions(None)) == (
        "0.346",
        "–",
        "31.78M",
        "–",
    )
    assert percent_interval(Interval(0.9, 0.85, 0.95)) == "90.00 (85.00–95.00)"
    assert percent_interval(Interval(0.9, NAN, NAN)) == "90.00"


def test_differences_are_flagged_only_where_they_say_something() -> None:
    ours = Interval(0.90, 0.88, 0.92)
    assert compared(ours, 0.91, True) == "-1.00"
    assert compared(ours, 0.95, True) == "-5.00 *differs*"
    assert compared(ours, 0.95, False) == "-5.00 (other slices)"
    assert compared(ours, None, True) == "–"
    assert compared(Interval(NAN, NAN, NAN), 0.9, True) == "–"
