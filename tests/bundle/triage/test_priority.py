"""Reading priority and the rule that gave it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.results import Priority
from covid_ct_mask_net.triage.priority import PriorityRules, prioritise

RULES = PriorityRules()


@pytest.mark.parametrize(
    ("control", "percent", "priority", "rule"),
    [
        (0.1, 0.0, Priority.URGENT, "probability of disease 0.900 is at least 0.9"),
        (0.101, 0.0, Priority.RAISED, "probability of disease 0.899 is at least 0.5"),
        (0.5, 0.0, Priority.RAISED, "probability of disease 0.500 is at least 0.5"),
        (
            0.501,
            0.999,
            Priority.ROUTINE,
            "probability of disease 0.499 is below 0.5 and involvement of 1.0 % of",
        ),
        (1.0, 1.0, Priority.RAISED, "involvement of 1.0 % of the lungs is at least 1 %"),
        (1.0, 24.99, Priority.RAISED, "involvement of 25.0 % of the lungs is at least 1 %"),
        (1.0, 25.0, Priority.URGENT, "involvement of 25.0 % of the lungs is at least 25 %"),
        (0.0, 100.0, Priority.URGENT, "probability of disease 1.000 is at least 0.9"),
    ],
)
def test_thresholds_belong_to_the_higher_priority(
    control: float, percent: float, priority: Priority, rule: str
) -> None:
    rest = 1.0 - control
    found, sentence = prioritise((control, rest / 2, rest / 2), percent, RULES)
    assert found is priority
    assert sentence.startswith(rule)


def test_more_disease_never_lowers_the_priority() -> None:
    ranks = {Priority.ROUTINE: 0, Priority.RAISED: 1, Priority.URGENT: 2}
    steps = [i / 20 for i in range(21)]
    levels = [[ranks[prioritise((1 - p, p, 0.0), 100 * q, RULES)[0]] for q in steps] for p in steps]
    for row, following in pairwise(levels):
        assert row == sorted(row)
        assert all(a <= b for a, b in zip(row, following, strict=True))


def test_thresholds_are_settings() -> None:
    rules = PriorityRules(
        urgent_probability=0.6, raised_probability=0.2, urgent_percent=50.0, raised_percent=10.0
    )
    assert prioritise((0.4, 0.6, 0.0), 0.0, rules)[0] is Priority.URGENT
    assert prioritise((0.9, 0.1, 0.0), 9.0, rules)[0] is Priority.ROUTINE


@pytest.mark.parametrize(
    "wrong",
    [
        {"urgent_probability": 0.4},
        {"urgent_probability": 1.1},
        {"raised_probability": -0.1},
        {"urgent_percent": 0.5},
        {"urgent_percent": 101.0},
        {"raised_percent": -1.0},
    ],
)
def test_thresholds_out_of_order_or_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))) as caught:
        PriorityRules(**wrong)
    assert caught.value.code == "SETTING"
