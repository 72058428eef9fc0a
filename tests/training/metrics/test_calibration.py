from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.metrics.calibration import (
    brier_score,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
    reliability,
)


def _overconfident(sharpness: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Return logits ``sharpness`` times too large, and classes drawn from the honest ones."""
    generator = np.random.default_rng(3)
    honest = generator.normal(0, 1.5, (count, 3))
    chances = probabilities(honest)
    true = (chances.cumsum(axis=1) < generator.random((count, 1))).sum(axis=1)
    return honest * sharpness, true


def test_the_temperature_undoes_overconfidence_without_changing_classes() -> None:
    logits, true = _overconfident(6.0)
    temperature = fit_temperature(logits, true)
    assert temperature == pytest.approx(6.0, rel=0.05)
    before, after = probabilities(logits), probabilities(logits, temperature)
    assert reliability(before, true).ece > 0.2
    assert reliability(after, true).ece < 0.03
    assert brier_score(after, true) < brier_score(before, true)
    assert negative_log_likelihood(logits, true, temperature) < negative_log_likelihood(logits, true)
    assert (before.argmax(axis=1) == after.argmax(axis=1)).all()


def test_reliability_counts_by_confidence() -> None:
    diagram = reliability([[0.95, 0.05], [0.9, 0.1], [0.4, 0.6]], [0, 1, 1], bins=10)
    # 0.95 lies in the last bin, 0.9 (an upper edge) in the one before, 0.6 in the one ending there.
    assert diagram.count.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 1, 1]
    assert diagram.accuracy[8] == 0
    assert diagram.ece == pytest.approx((0.05 + 0.9 + 0.4) / 3)
    assert np.isnan(diagram.accuracy[0])


def test_brier_score_of_certainty() -> None:
    assert brier_score([[1, 0, 0]], [0]) == 0
    assert brier_score([[1, 0, 0]], [2]) == 2
    assert brier_score([[1 / 3] * 3], [1]) == pytest.approx(2 / 3)


def test_extreme_logits_neither_overflow_nor_escape_the_bounds() -> None:
    logits = np.array([[-27.15, -15.09, 16.2], [900.0, -900.0, 0.0]])
    assert np.isfinite(probabilities(logits)).all()
    # All right: anything cold enough is as good. All wrong: as hot as allowed.
    assert 0.05 <= fit_temperature(logits, [2, 0]) < 5
    assert fit_temperature(logits, [0, 1]) == pytest.approx(100, rel=0.01)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="were expected"):
        brier_score([[0.5, 0.5]], [0, 1])
    with pytest.raises(UsageError, match="were expected"):
        fit_temperature(np.zeros((0, 3)), [])
