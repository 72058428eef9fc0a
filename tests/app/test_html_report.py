from __future__ import annotations

import dataclasses
from html import escape

from builders.result_set import made
from builders.results import declined
from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.app.html_report import html_report
from covid_ct_mask_net.app.sentences import LESION_NOTE
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.results import Reason


def test_a_report_has_pictures_lesions_and_facts_and_no_patient() -> None:
    one = made()
    text = (one.folder / "report.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") >= 3  # key images and projections
    assert "<svg" in text
    for lesion in one.result.lesions:
        assert lesion.lesion_class.label in text
    assert RESEARCH_NOTICE in text
    # Table Position is another attribute (0018,9327), and a score no certainty.
    assert "position z" in text.lower()
    assert escape(LESION_NOTE) in text
    for word in ("table position", "certainty"):
        assert word not in text.lower()
    image = next(iter(one.images.values()))
    for word in (str(image.PatientName), image.PatientID):
        assert word not in text


def test_a_study_that_was_not_assessed_says_why() -> None:
    text = html_report(declined(NotAssessableError("NOT_CHEST", "No lung & no chest.")), None, ())
    assert "No lung &amp; no chest." in text
    assert "NOT_CHEST" in text
    assert "<svg" not in text


def test_what_stands_in_a_result_is_escaped() -> None:
    hostile = dataclasses.replace(made().result, warnings=(Reason("X", "<img src=x onerror=alert(1)>"),))
    assert "<img src=x" not in html_report(hostile, None, ())
