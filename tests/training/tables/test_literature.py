from __future__ import annotations

import re

from covid_ct_mask_net.training.tables.literature import CITATIONS, NOT_COMPARABLE, UNSTATED


def test_all_rows_of_the_paper_are_cited_with_a_caution() -> None:
    names = [one.name for one in CITATIONS]
    assert names == [
        "ResNet50 [8]", "LightCNN", "COVNet", "ResNet18 [3]", "DarkCOVIDNet", "DreNet", "WRE + 3SBBO",
    ]  # fmt: skip
    assert all(one.caution for one in CITATIONS)
    assert "not comparable" in NOT_COMPARABLE


def test_figures_have_a_source_that_can_be_found() -> None:
    for one in CITATIONS:
        if one.figures != UNSTATED:
            assert re.search(r"doi 10\.\d{4}/", one.source), one.name


def test_figures_that_nobody_looked_up_say_so() -> None:
    marked = {one.name for one in CITATIONS if one.stated.endswith("(not verified)")}
    assert marked == {"COVNet", "DarkCOVIDNet"}
    assert all(one.stated == one.figures for one in CITATIONS if one.name not in marked)
