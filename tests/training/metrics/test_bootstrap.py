from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.metrics.bootstrap import (
    Interval,
    classification_intervals,
    clustered_interval,
    summed_intervals,
)


def _clustered(patients: int, each: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return slices that are all right or all wrong within a patient; 80 % of patients are right."""
    true = np.repeat(np.arange(patients) % 2, each)
    wrong = np.repeat(np.arange(patients) % 5 == 0, each)
    return true, np.where(wrong, 1 - true, true), [str(p) for p in np.repeat(np.arange(patients), each)]


def test_intervals_are_those_of_patients_and_not_of_slices() -> None:
    true, predicted, patients = _clustered(50, 40)
    by_patient = classification_intervals(true, predicted, patients, 2).accuracy
    by_slice = classification_intervals(true, predicted, [str(i) for i in range(2000)], 2).accuracy
    assert by_patient.estimate == by_slice.estimate == 0.8
    # Standard error sqrt(0.8 * 0.2 / 50) = 0.057 against sqrt(0.8 * 0.2 / 2000) = 0.009.
    assert by_patient.high - by_patient.low == pytest.approx(2 * 1.96 * 0.0566, rel=0.15)
    assert by_slice.high - by_slice.low == pytest.approx(2 * 1.96 * 0.0089, rel=0.15)
    assert 0.8 in by_patient
    assert 0.95 not in by_patient


def test_the_seed_decides() -> None:
    data = _clustered(20, 3)
    assert classification_intervals(*data, 2, seed=1) == classification_intervals(*data, 2, seed=1)
    assert classification_intervals(*data, 2, seed=1) != classification_intervals(*data, 2, seed=2)


def test_a_class_that_does_not_occur_has_no_interval() -> None:
    result = classification_intervals([0, 0, 1], [0, 1, 1], ["a", "b", "c"], 3, replicates=50)
    assert np.isnan([result.sensitivity[2].low, result.sensitivity[2].estimate]).all()
    assert not np.isnan(result.sensitivity[1].low)
    assert result.patients == 3


def test_any_statistic_agrees_with_the_fast_way() -> None:
    true, predicted, patients = _clustered(40, 5)
    right = true == predicted
    slow = clustered_interval(lambda index: float(right[index].mean()), patients, replicates=1000)
    fast = classification_intervals(true, predicted, patients, 2).accuracy
    assert slow.estimate == fast.estimate
    assert slow.low == pytest.approx(fast.low, abs=0.03)
    assert slow.high == pytest.approx(fast.high, abs=0.03)


def test_figures_of_sums_agree_with_the_slow_way() -> None:
    true, predicted, patients = _clustered(40, 5)
    right = (true == predicted).astype(float)
    values = np.column_stack([right, np.ones(len(right))])
    (fast,) = summed_intervals(values, lambda sums: sums[:, :1] / sums[:, 1:], patients)
    slow = clustered_interval(lambda index: float(right[index].mean()), patients, replicates=1000)
    assert fast.estimate == slow.estimate == 0.8
    assert fast.low == pytest.approx(slow.low, abs=0.03)
    assert fast.high == pytest.approx(slow.high, abs=0.03)


def test_perfect_figures_have_the_exact_interval_of_their_patients() -> None:
    # Four patients of each class, five slices each; one slice of the last patient is wrong.
    true, patients = np.repeat([0, 0, 0, 0, 1, 1, 1, 1], 5), [str(p) for p in np.repeat(np.arange(8), 5)]
    perfect = classification_intervals(true, true, patients, 2)
    # 0.025 ** (1 / n): the rule of Clopper and Pearson where all of n are right.
    assert perfect.accuracy == perfect.weighted_f1 == Interval(1.0, pytest.approx(0.025 ** (1 / 8)), 1.0)
    assert perfect.sensitivity[0] == perfect.ppv[1] == Interval(1.0, pytest.approx(0.025 ** (1 / 4)), 1.0)
    assert classification_intervals(true, 1 - true, patients, 2).accuracy == Interval(
        0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 8))
    )
    predicted = true.copy()
    predicted[-1] = 0
    mixed = classification_intervals(true, predicted, patients, 2)
    # Class 0 was found in five patients; all of its own four were right.
    assert mixed.sensitivity[0].low == pytest.approx(0.025 ** (1 / 4))
    assert mixed.ppv[1].low == pytest.approx(0.025 ** (1 / 4))
    assert mixed.f1[0].high <= 1
    assert mixed.accuracy.low < mixed.accuracy.estimate == 39 / 40


def test_other_statistics_at_one_are_no_proportions() -> None:
    patients = [str(p) for p in range(6)]
    assert clustered_interval(lambda _: 1.0, patients, replicates=20) == Interval(1.0, 1.0, 1.0)
    exact = clustered_interval(lambda _: 1.0, patients, replicates=20, proportion=True)
    assert exact.low == pytest.approx(0.025 ** (1 / 6))


def test_one_patient_an_item_is_needed() -> None:
    with pytest.raises(UsageError, match="2 items and 1 patients"):
        classification_intervals([0, 1], [0, 1], ["a"], 2)
    with pytest.raises(UsageError, match="0 items"):
        clustered_interval(lambda index: float(len(index)), [])
