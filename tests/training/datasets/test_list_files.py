"""Lists and tables as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from covid_ct_mask_net.errors import CovidCTMaskNetError
from covid_ct_mask_net.training.datasets.list_files import list_lines, read_table


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("one\n\n  \ntwo 2\n", encoding="utf-8")
    assert list(list_lines(path)) == [(1, "one"), (4, "two 2")]


@pytest.mark.parametrize(
    ("content", "code"), [(None, "LIST_MISSING"), (b"\n \n", "LIST_EMPTY"), (b"\xff\xfe\x00", "LIST_FORMAT")]
)
def test_what_is_no_list_is_told(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CovidCTMaskNetError, match=r"list\.txt") as caught:
        list(list_lines(path))
    assert caught.value.code == code


def test_a_table_says_which_columns_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("volume,patient\na,1\n\nb,2\n", encoding="utf-8")
    table = read_table(path)
    assert table.columns == ("volume", "patient")
    assert [(number, row["patient"]) for number, row in table.rows] == [(2, "1"), (4, "2")]
    assert table.lacks(["patient"]) is None
    assert "no column split; it has volume, patient" in str(table.lacks(["patient", "split"]))


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"volume\xff\n")
    with pytest.raises(CovidCTMaskNetError, match="no CSV"):
        read_table(path)
