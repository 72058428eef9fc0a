from __future__ import annotations

from covid_ct_mask_net.app.html_page import facts, items, page, table

HOSTILE = "<script>alert('x')</script>"


def test_texts_are_escaped_wherever_they_stand() -> None:
    text = page(HOSTILE, table([HOSTILE], [[HOSTILE]]) + facts([(HOSTILE, HOSTILE)]) + items([HOSTILE]))
    assert "<script" not in text
    # Title, heading, table head and cell, name and value, list item.
    assert text.count("&lt;script&gt;") == 7


def test_a_page_may_load_nothing() -> None:
    text = page("Study", "")
    assert "Content-Security-Policy" in text
    assert "default-src &#x27;none&#x27;" in text
    assert "http://" not in text
    assert "https://" not in text
