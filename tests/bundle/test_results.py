from __future__ import annotations

import dataclasses
import json

import pytest

from builders.results import assessed, declined
from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.results import RESULT_SCHEMA, Status


def test_only_an_assessed_study_has_a_class() -> None:
    result = assessed()
    for status in Status:
        if status is not Status.ASSESSED:
            with pytest.raises(ValueError, match="no other study may"):
                dataclasses.replace(result, status=status)
    with pytest.raises(ValueError, match="without a triage"):
        dataclasses.replace(declined(NotAssessableError("A", "B.")), status=Status.ASSESSED)


def test_json_has_names_for_classes_and_says_research_only() -> None:
    document = json.loads(assessed().to_json())
    assert document["schema"] == RESULT_SCHEMA
    assert document["notice"] == RESEARCH_NOTICE
    assert document["triage"]["predicted_class"] == "COVID-19"
    assert document["lesions"][0]["lesion_class"] == "Ground-glass opacity"
    assert document["lesions"][0]["side"] == "right"
    assert set(document["involvement"]["sides"]) == {"right", "left"}


def test_equal_results_are_equal_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert assessed().to_json() == assessed().to_json()


def test_values_that_json_does_not_know_are_an_error() -> None:
    result = assessed()
    lesion = dataclasses.replace(result.lesions[0], mean_hu=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        dataclasses.replace(result, lesions=(lesion,)).to_json()
