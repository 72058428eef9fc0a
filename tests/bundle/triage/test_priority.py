from __future__ import annotations

import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.results import Priority
from covid_ct_mask_net.triage.priority import PriorityRules, prioritise


@pytest.mark.parametrize(
    ("control", "percent", "expected", "words"),
    [
        (0.95, 0.0, Priority.ROUTINE, "below 0.5"),
        (0.5, 0.0, Priority.RAISED, "probability of disease 0.500"),
        (0.51, 0.99, Priority.ROUTINE, "below 1 %"),
        (0.9, 1.0, Priority.RAISED, "involvement of 1.0 %"),
        (0.1, 0.0, Priority.URGENT, "probability of disease 0.900"),
        (0.9, 25.0, Priority.URGENT, "involvement of 25.0 %"),
    ],
)
def test_thresholds_belong_to_the_higher_priority(
    control: float, percent: float, expected: Priority, words: str
) -> None:
    rest = (1 - control) / 2
    priority, rule = prioritise((control, rest, rest), percent, PriorityRules())
    assert priority is expected
    assert words in rule


@pytest.mark.parametrize(
    "change",
    [
        {"raised_probability": 0.95},
        {"urgent_percent": 0.5},
        {"urgent_probability": 1.2},
        {"raised_percent": -1},
    ],
)
def test_thresholds_in_the_wrong_order_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="in this order"):
        PriorityRules(**change)
