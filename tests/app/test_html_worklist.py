from __future__ import annotations

import dataclasses

from builders.results import assessed, declined
from covid_ct_mask_net.app.html_worklist import html_worklist
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.results import Reason, StudyResult
from covid_ct_mask_net.worklist import WorklistEntry


def page(*results: StudyResult) -> str:
    entries = [WorklistEntry.of(result) for result in results]
    return html_worklist(entries, {result.pseudonym for result in results})


def test_studies_stand_in_reading_order_and_lead_to_their_reports() -> None:
    refused = declined(NotAssessableError("NOT_CHEST", "No <lung>."), 2)
    text = page(assessed("routine", 1), refused, assessed("urgent", 3))
    places = [text.index(f'href="{number:012x}/report.html"') for number in (3, 1, 2)]
    assert places == sorted(places)
    assert "No &lt;lung&gt;. (NOT_CHEST)" in text
    assert "never down" in text


def test_what_limits_an_answer_stands_beside_it() -> None:
    warned = dataclasses.replace(assessed(), warnings=(Reason("SLICE_GAP", "One is missing."),))
    assert "<small>SLICE_GAP</small>" in page(warned)
    assert "<small>" not in page(assessed())


def test_a_study_without_a_page_is_listed_without_a_link() -> None:
    text = html_worklist(
        [WorklistEntry.of(assessed("routine", 1)), WorklistEntry.of(assessed("urgent", 2))], {f"{2:012x}"}
    )
    assert f'href="{2:012x}/report.html"' in text
    assert f"<td><code>{1:012x}</code></td>" in text
    assert text.count("href=") == 1
