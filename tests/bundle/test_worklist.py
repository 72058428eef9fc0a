from __future__ import annotations

import json

from builders.results import assessed, declined
from covid_ct_mask_net.errors import NotAssessableError, RefusedInputError
from covid_ct_mask_net.worklist import WorklistEntry, reading_order, worklist

RESULTS = [
    assessed("routine", 1),
    declined(NotAssessableError("NOT_CHEST", "No lung."), 2),
    assessed("raised", 3),
    assessed("urgent", 4),
    declined(RefusedInputError("MIXED_PATIENTS", "Two."), 5),
    assessed("urgent", 6),
]
CAME = [WorklistEntry.of(result) for result in RESULTS]


def test_studies_only_move_up() -> None:
    order = [int(result.pseudonym, 16) for result in reading_order(CAME)]
    assert order == [4, 6, 3, 1, 2, 5]


def test_an_entry_has_what_a_reader_needs_and_no_more() -> None:
    document = json.loads(worklist(CAME))
    first, *_, last = document["studies"]
    assert first["result"] == "000000000004/result.json"
    assert (first["priority"], first["class"]) == ("urgent", "COVID-19")
    assert (last["status"], last["reasons"], last["class"]) == ("refused", ["MIXED_PATIENTS"], None)


def test_an_entry_is_the_same_from_a_result_and_from_its_file() -> None:
    assert [WorklistEntry.of_document(json.loads(result.to_json())) for result in RESULTS] == CAME
    assert CAME[0].answer is not None
    assert CAME[0].answer.probabilities == RESULTS[0].triage.probabilities  # type: ignore[union-attr]
