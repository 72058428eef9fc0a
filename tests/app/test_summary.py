from __future__ import annotations

import dataclasses
from pathlib import Path

from builders.results import assessed, declined
from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.app.summary import summary_table
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.results import Reason, StudyResult
from covid_ct_mask_net.worklist import WorklistEntry


def listed(*results: StudyResult) -> list[WorklistEntry]:
    return [WorklistEntry.of(result) for result in results]


def test_one_line_a_study_and_what_holds_for_all() -> None:
    table = summary_table(
        listed(assessed(), declined(NotAssessableError("NOT_CHEST", "No lung."), 2)), Path("out")
    )
    lines = table.splitlines()
    assert lines[0].split()[:3] == ["study", "status", "class"]
    assert lines[2].split()[:3] == ["000000000001", "assessed", "COVID-19"]
    assert "urgent" in lines[2]
    assert lines[3].split() == ["000000000002", "not_assessed", "NOT_CHEST"]
    assert "Results: out" in table
    assert "Model: a test." in table
    assert table.rstrip().endswith(RESEARCH_NOTICE)
    assert max(len(line) for line in lines[:4]) < 140


def test_studies_stand_in_reading_order_with_their_warnings() -> None:
    warned = dataclasses.replace(assessed("urgent", 3), warnings=(Reason("SLICE_GAP", "One is missing."),))
    lines = summary_table(listed(assessed("routine", 1), warned), Path("out")).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == [f"{3:012x}", f"{1:012x}"]
    assert "  000000000003  SLICE_GAP" in lines
