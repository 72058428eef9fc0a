from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from builders.results import assessed, declined
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.json_schemas import SCHEMAS, schema
from covid_ct_mask_net.worklist import WorklistEntry, worklist


def errors(name: str, document: dict[str, Any]) -> list[str]:
    return [e.json_path for e in Draft202012Validator(schema(name)).iter_errors(document)]


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))


def test_an_unknown_schema() -> None:
    with pytest.raises(ValueError, match="there are result"):
        schema("report")


def test_results_follow_their_schema() -> None:
    for result in (assessed(), assessed("routine"), declined(NotAssessableError("NOT_CHEST", "No lung."))):
        assert errors("result", result.to_dict()) == []
    entries = [WorklistEntry.of(result) for result in (assessed(), declined(NotAssessableError("A", "B.")))]
    assert errors("worklist", json.loads(worklist(entries))) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("status",), "not_assessed"),
        (("triage",), None),
        (("triage", "probabilities"), [0.5, 0.5]),
        (("lesions", 0, "side"), "middle"),
        (("patient_name",), "Doe^Jane"),
        (("study_instance_uid",), "1.2.x"),
        (("pseudonym",), "../../etc"),
    ],
)
def test_the_schema_finds_what_is_wrong(path: tuple[Any, ...], value: Any) -> None:
    document = json.loads(assessed().to_json())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert errors("result", document)
