from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.metrics.classification import (
    confusion_matrix,
    figures,
    figures_of_many,
    predictive_values,
)

# Confusion matrices of the original's README (paper.md A4).
BOTH = [[9236, 188, 26], [116, 7150, 129], [20, 298, 4028]]
MERGED = [[9158, 278, 14], [204, 7030, 161], [15, 251, 4080]]


@pytest.mark.parametrize(
    ("confusion", "accuracy", "weighted_f1"), [(BOTH, 96.33, 0.9634), (MERGED, 95.64, 0.9565)]
)
def test_golden_values_of_the_published_matrices(
    confusion: list[list[int]], accuracy: float, weighted_f1: float
) -> None:
    """Paper Eq. 5 and 6."""
    result = figures(confusion)
    assert round(100 * result.accuracy, 2) == accuracy
    assert round(result.weighted_f1, 4) == weighted_f1


def test_sensitivity_and_ppv_are_by_row_and_column() -> None:
    """Paper Eq. 3 and 4."""
    result = figures(BOTH)
    assert result.sensitivity[0] == 9236 / (9236 + 188 + 26)
    assert result.ppv[0] == 9236 / (9236 + 116 + 20)
    sensitivity, ppv = result.sensitivity[2], result.ppv[2]
    assert result.f1[2] == pytest.approx(2 * sensitivity * ppv / (sensitivity + ppv))


def test_classes_that_do_not_occur_are_nan_and_do_not_spoil_the_rest() -> None:
    result = figures([[3, 1, 0], [0, 0, 0], [0, 0, 4]])
    assert np.isnan(result.sensitivity[1])
    assert result.ppv[1] == 0
    assert result.accuracy == 7 / 8
    assert result.weighted_f1 == pytest.approx((6 / 7 * 4 + 1 * 4) / 8)
    assert np.isnan(figures(np.zeros((2, 2))).accuracy)


def test_counting() -> None:
    assert confusion_matrix([0, 0, 2, 1], [0, 2, 2, 1], 3).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]
    with pytest.raises(UsageError, match="0 to 3"):
        confusion_matrix([0, 3], [0, 1], 3)
    with pytest.raises(UsageError, match="pairs"):
        confusion_matrix([0, 3], [0], 3)


def test_many_at_once_equal_one_by_one() -> None:
    many = figures_of_many([BOTH, MERGED])
    assert many["accuracy"].tolist() == [figures(BOTH).accuracy, figures(MERGED).accuracy]
    assert many["ppv"][1].tolist() == figures(MERGED).ppv.tolist()


def test_ppv_at_the_observed_prevalence_is_the_observed_ppv_and_falls_with_it() -> None:
    matrix = np.array(BOTH)
    observed = matrix.sum(axis=1) / matrix.sum()
    ppv, npv = predictive_values(matrix, observed.tolist())
    np.testing.assert_allclose(ppv, figures(BOTH).ppv)
    negatives = matrix.sum() - matrix.sum(axis=1) - matrix.sum(axis=0) + np.diagonal(matrix)
    np.testing.assert_allclose(npv, negatives / (matrix.sum() - matrix.sum(axis=0)))
    # One COVID-19 slice in a hundred: 4028/4346 against 26/9450 of 0.98 and 129/7395 of 0.01.
    rare, _ = predictive_values(matrix, [0.98, 0.01, 0.01])
    hit = 4028 / 4346 * 0.01
    assert rare[2] == pytest.approx(hit / (hit + 26 / 9450 * 0.98 + 129 / 7395 * 0.01))
    assert rare[2] < 0.8 < ppv[2]


@pytest.mark.parametrize("prevalence", [[0.5, 0.5], [0.5, 0.5, 0.5], [1.5, -0.5, 0.0]])
def test_impossible_prevalences_are_refused(prevalence: list[float]) -> None:
    with pytest.raises(UsageError, match="add up to 1"):
        predictive_values(BOTH, prevalence)
    with pytest.raises(UsageError, match="does not occur"):
        predictive_values([[1, 0], [0, 0]], [0.5, 0.5])
