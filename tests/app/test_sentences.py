from __future__ import annotations

import dataclasses

from builders.results import assessed, declined
from covid_ct_mask_net.app.sentences import LESION_HEADINGS, answer, lesion_rows, probabilities
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.slice_sampling import SlicePlan


def test_the_answer_comes_first() -> None:
    lines = answer(assessed())
    assert lines[0] == "Class: COVID-19, over 99 %."
    assert "The study's probabilities are the mean of the class probabilities of all lung slices." in lines
    # Volumes of lesions that are not there say nothing.
    assert not any("Lesions take" in line for line in answer(assessed("routine")))
    assert lines[1].startswith("Priority: urgent, because")
    assert "1 lesion was found." in lines
    assert "No lesion was found." in answer(assessed("routine"))


def test_the_headline_is_in_whole_per_cents_and_never_certain() -> None:
    triage = assessed().triage
    assert triage is not None
    for shares, told in (((0.1, 0.0613, 0.8387), "84 %"), ((0.0, 0.0041, 0.9959), "over 99 %")):
        result = dataclasses.replace(assessed(), triage=dataclasses.replace(triage, probabilities=shares))
        assert result.triage is not None
        assert answer(result)[0] == f"Class: COVID-19, {told}."
        assert probabilities(result.triage)[2] == (SliceClass.COVID_19, f"{100 * shares[2]:.1f} %")


def test_what_was_not_assessed_says_why() -> None:
    assert answer(declined(NotAssessableError("NOT_CHEST", "No lung."))) == [
        "Not assessed: No lung. (NOT_CHEST)"
    ]


def test_lesions_as_a_table() -> None:
    headings, row = lesion_rows(assessed().lesions)
    assert headings == LESION_HEADINGS
    assert len(row) == len(headings)
    assert headings[-1] == "Score"
    assert row[-1].endswith(" %")
    assert row[:4] == ("1", "Ground-glass opacity", "right lung, middle third", "5 to 6")


def test_slices_left_out_are_said() -> None:
    sampling = SlicePlan.parse("every=10").sample(range(4, 10), 5.0).report((4, 6, 8))
    result = dataclasses.replace(assessed(), sampling=sampling)
    assert sampling.sentence in answer(result)
    assert "3 of 6 lung slices were read" in sampling.sentence
    everything = SlicePlan.parse("all").sample(range(4, 10), 5.0).report(range(4, 10))
    assert answer(dataclasses.replace(assessed(), sampling=everything)) == answer(assessed())
