"""Where the stock operators of the App SDK go wrong without a word, this project is right or declines."""

from __future__ import annotations

from pathlib import Path

import pytest
from stock_operators import HEADER, observe, row

from builders.stock_cases import CASES, Case, itk_pixels

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stock_operators.md"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_ours_is_right_and_the_page_says_what_each_gives(case: Case, tmp_path: Path) -> None:
    stock, ours = observe(case, tmp_path)
    assert ours == case.right
    assert stock != case.right, "the stock operators were mended: change the page"
    assert row(case.situation, case.right, stock, ours) in PAGE.read_text(encoding="utf-8")


def test_the_page_holds_these_cases_and_no_others() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = text.split(HEADER)[1].split("\n\n")[0].splitlines()
    assert len(rows) == len(CASES)


def test_a_third_party_agrees_on_the_spacing(tmp_path: Path) -> None:
    (case,) = [case for case in CASES if case.name == "swapped-spacing"]
    case.make(tmp_path)
    assert itk_pixels(tmp_path) == case.right
