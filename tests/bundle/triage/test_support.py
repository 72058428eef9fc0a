"""Slices that only one of the two networks calls diseased count in part."""

from __future__ import annotations

import numpy as np
import pytest

from builders.evidence import evidence, instance
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.triage.support import LesionSupport

SLICES = [
    evidence(0, instance(0, (2, 4), (2, 4), score=0.7), instance(0, (6, 8), (2, 4), score=0.85)),
    evidence(1, instance(1, (2, 4), (2, 4), score=0.6)),
    evidence(2),
]
PROBABILITIES = np.array([[0.1, 0.3, 0.6], [0.2, 0.6, 0.2], [0.9, 0.1, 0.0]])


@pytest.mark.parametrize(("min_score", "in_part"), [(0.5, [2]), (0.6, [2]), (0.7, [1, 2]), (0.9, [0, 1, 2])])
def test_disease_without_a_lesion_counts_in_part(min_score: float, in_part: list[int]) -> None:
    counted = LesionSupport(min_score, 0.25)(PROBABILITIES, SLICES)
    whole = [place for place in range(3) if place not in in_part]
    assert np.array_equal(counted[whole], PROBABILITIES[whole]), "to the bit: a ceiling may lie there"
    assert np.allclose(counted[in_part, 1:], 0.25 * PROBABILITIES[in_part, 1:])
    assert np.allclose(counted.sum(axis=1), 1.0)


def test_what_is_no_number_stays_none() -> None:
    broken = np.array([[np.nan] * 3])
    assert np.isnan(LesionSupport(0.5, 0.5)(broken, SLICES[2:])).all()


def test_by_default_nothing_changes_and_nothing_is_said() -> None:
    assert LesionSupport()(PROBABILITIES, SLICES) is PROBABILITIES
    assert LesionSupport().describe() == ""
    assert LesionSupport(0.8, 0.5).describe() == (
        "slices on which no lesion scores 0.8 or more count with 0.5 of their probability of disease"
    )


@pytest.mark.parametrize("wrong", [{"min_score": 1.5}, {"weight": -0.1}, {"weight": 2.0}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="0 to 1"):
        LesionSupport(**wrong)
