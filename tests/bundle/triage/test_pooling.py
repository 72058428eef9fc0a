from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.triage.pooling import (
    Max,
    Mean,
    NoisyOr,
    PoolingRule,
    SharePositive,
    TopKMean,
    pooling_rule,
)

RULES = [Mean(), TopKMean(3), Max(), NoisyOr(), SharePositive()]
NAMES = [type(rule).__name__ for rule in RULES]
SLICES = np.array([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_every_rule_gives_probabilities_and_ignores_the_order(rule: PoolingRule) -> None:
    rng = np.random.default_rng(1)
    for count in (1, 2, 7, 40):
        slices = rng.dirichlet([1, 1, 1], size=count)
        pooled = rule(slices)
        assert pooled.shape == (3,)
        assert pooled.min() >= 0
        assert pooled.sum() == pytest.approx(1)
        np.testing.assert_allclose(rule(rng.permutation(slices)), pooled, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_slices_that_agree_keep_their_class(rule: PoolingRule) -> None:
    assert rule(np.tile([0.05, 0.05, 0.9], (5, 1))).argmax() == 2


def test_values_by_hand() -> None:
    np.testing.assert_allclose(Mean()(SLICES), [0.425, 0.225, 0.35])
    np.testing.assert_allclose(TopKMean(2)(SLICES), [0.15, 0.25, 0.6])
    np.testing.assert_allclose(Max()(SLICES), SLICES[1])
    np.testing.assert_allclose(SharePositive()(SLICES), [0.5, 0, 0.5])
    control = 0.8 * 0.1 * 0.6 * 0.2
    shares = np.array([0.9, 1.4]) / 2.3
    np.testing.assert_allclose(NoisyOr()(SLICES), [control, *((1 - control) * shares)])


def test_top_k_of_fewer_slices_is_the_mean() -> None:
    np.testing.assert_allclose(TopKMean(50)(SLICES), Mean()(SLICES))


def test_rules_by_name() -> None:
    assert isinstance(pooling_rule("top_k_mean", {"k": 4}), TopKMean)
    assert "4 lung slices" in pooling_rule("top_k_mean", {"k": 4}).describe()
    with pytest.raises(UsageError, match="choose mean, top_k_mean"):
        pooling_rule("median")
    with pytest.raises(UsageError, match="does not take"):
        pooling_rule("mean", {"k": 4})
    with pytest.raises(UsageError, match="at least one"):
        pooling_rule("top_k_mean", {"k": 0})
