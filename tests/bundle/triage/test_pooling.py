"""From slices to the volume: golden numbers, and what holds for every rule."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.paths import bundle_root
from covid_ct_mask_net.triage.pooling import (
    CappedExtentMean,
    CappedTopKMean,
    Max,
    Mean,
    NoisyOr,
    PoolingRule,
    SharePositive,
    TopKMean,
    pooling_rule,
)

SLICES = np.array([[0.8, 0.1, 0.1], [0.2, 0.3, 0.5], [0.5, 0.4, 0.1], [0.9, 0.05, 0.05]])
RULES = [
    Mean(),
    TopKMean(1),
    TopKMean(8),
    TopKMean(100),
    Max(),
    NoisyOr(),
    SharePositive(),
    CappedTopKMean(100),
]
IDS = [type(rule).__name__ + str(getattr(rule, "k", "")) for rule in RULES]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Mean(), [0.6, 0.2125, 0.1875]),
        (TopKMean(2), [0.35, 0.35, 0.3]),
        (Max(), [0.2, 0.3, 0.5]),
        # 0.8 * 0.2 * 0.5 * 0.9 = 0.072; disease 0.85 : 0.75.
        (NoisyOr(), [0.072, 0.928 * 0.85 / 1.6, 0.928 * 0.75 / 1.6]),
        (SharePositive(), [0.75, 0.0, 0.25]),
    ],
)
def test_golden_numbers(rule: PoolingRule, expected: list[float]) -> None:
    assert rule(SLICES) == pytest.approx(expected, abs=1e-12)


def _random(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([0.5, 0.5, 0.5], size=count)


@pytest.mark.parametrize("rule", RULES, ids=IDS)
@pytest.mark.parametrize("count", [1, 2, 9, 300])
def test_probabilities_sum_to_one_and_lie_in_bounds(rule: PoolingRule, count: int) -> None:
    for seed in range(5):
        pooled = rule(_random(count, seed))
        assert pooled.shape == (3,)
        assert pooled.sum() == pytest.approx(1.0, abs=1e-12)
        assert (pooled >= 0.0).all()
        assert (pooled <= 1.0).all()


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_the_order_of_the_slices_does_not_matter(rule: PoolingRule) -> None:
    slices = np.concatenate([_random(20, 1), np.tile([[0.3, 0.3, 0.4], [0.3, 0.4, 0.3]], (5, 1))])
    expected = rule(slices)
    for seed in range(10):
        assert rule(np.random.default_rng(seed).permutation(slices)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rule", [r for r in RULES if not isinstance(r, SharePositive)])
def test_one_slice_is_its_own_answer(rule: PoolingRule) -> None:
    assert rule(SLICES[1:2]) == pytest.approx(SLICES[1])


@pytest.mark.parametrize("rule", RULES, ids=IDS)
@pytest.mark.parametrize("label", [0, 1, 2])
def test_certain_slices_give_a_certain_answer(rule: PoolingRule, label: int) -> None:
    assert rule(np.tile(np.eye(3)[label], (12, 1))) == pytest.approx(np.eye(3)[label], abs=1e-9)


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_one_slice_of_disease_more_never_lowers_the_disease_below_the_mean_of_the_rest(
    rule: PoolingRule,
) -> None:
    healthy = np.tile([0.9, 0.05, 0.05], (20, 1))
    assert rule(np.vstack([healthy, [0.1, 0.1, 0.8]]))[0] <= rule(healthy)[0] + 1e-12


def test_noisy_or_grows_with_the_slices_and_does_not_underflow() -> None:
    doubt = np.tile([0.95, 0.03, 0.02], (400, 1))
    controls = [NoisyOr()(doubt[:n])[0] for n in (1, 10, 100, 400)]
    assert controls == sorted(controls, reverse=True)
    assert NoisyOr()(np.tile([1.0, 0.0, 0.0], (3000, 1))) == pytest.approx([1.0, 0.0, 0.0])
    assert np.isfinite(NoisyOr()(np.tile([0.0, 1.0, 0.0], (3000, 1)))).all()


def test_ties_of_share_and_top_k_give_one_answer() -> None:
    tied = np.array([[0.5, 0.2, 0.3], [0.5, 0.3, 0.2]])
    assert np.array_equal(Max()(tied), Max()(tied[::-1]))


def test_rules_by_name() -> None:
    rule = pooling_rule("top_k_mean", {"k": 3})
    assert isinstance(rule, TopKMean)
    assert rule.k == 3
    for name, kind in (
        ("mean", Mean),
        ("max", Max),
        ("noisy_or", NoisyOr),
        ("share_positive", SharePositive),
    ):
        assert type(pooling_rule(name)) is kind
    with pytest.raises(
        UsageError, match="choose mean, top_k_mean, capped_top_k_mean, capped_extent_mean, max, "
    ):
        pooling_rule("median")
    with pytest.raises(UsageError, match="does not take"):
        pooling_rule("mean", {"k": 3})
    with pytest.raises(UsageError, match="does not take"):
        pooling_rule("top_k_mean")
    with pytest.raises(UsageError, match="at least one slice"):
        TopKMean(0)


def test_each_rule_says_what_it_does() -> None:
    sentences = {rule.describe() for rule in RULES}
    assert len(sentences) == len(RULES)
    assert TopKMean(8).describe() == "mean of the class probabilities of the 8 lung slices least like Control"


def test_a_capped_rule_takes_the_first_of_those_that_are_sure() -> None:
    slices = np.array([[0.3, 0.3, 0.4], [0.05, 0.9, 0.05], [0.01, 0.0, 0.99], [0.0, 0.0, 1.0]])
    rule = CappedTopKMean(2, ceiling=0.9)
    assert rule(slices) == pytest.approx([0.03, 0.45, 0.52])
    assert rule(slices[::-1]) == pytest.approx([0.005, 0.0, 0.995])
    # Where too few are sure, it is the mean of those least like Control.
    assert CappedTopKMean(4, 0.9)(slices) == pytest.approx(TopKMean(4)(slices))


@pytest.mark.parametrize("seed", range(20))
def test_a_settled_rule_cannot_be_changed(seed: int) -> None:
    rule, random = CappedTopKMean(3, 0.9), np.random.default_rng(seed)
    slices = random.dirichlet([0.2, 0.4, 0.4], size=40)
    settled = [n for n in range(1, 41) if rule.settled(slices[:n])]
    assert settled, "these seeds have enough sure slices"
    missing = rule.missing(slices[: settled[0] - 1])
    assert missing == 1
    assert rule.missing(slices[:0]) == 3
    answer = rule(slices[: settled[0]])
    for n in settled:
        assert np.array_equal(rule(slices[:n]), answer)
    # Worst case: all that follow are as sure as can be of another class.
    for other in np.eye(3):
        assert np.array_equal(rule(np.vstack([slices[: settled[0]], np.tile(other, (50, 1))])), answer)
    before = slices[: settled[0] - 1]
    assert not np.array_equal(rule(np.vstack([before, np.tile(np.eye(3)[1], (50, 1))])), rule(before))


@pytest.mark.parametrize(
    "rule", [r for r in RULES if not isinstance(r, CappedTopKMean)], ids=lambda rule: type(rule).__name__
)
def test_rules_without_a_ceiling_never_settle(rule: PoolingRule) -> None:
    slices = np.tile([0.0, 0.0, 1.0], (500, 1))
    assert not rule.settled(slices)
    assert rule.missing(slices) is None


def test_a_ceiling_lies_between_the_bounds() -> None:
    for ceiling in (0.0, 1.0, -1.0):
        with pytest.raises(UsageError, match="ceiling"):
            CappedTopKMean(8, ceiling)
    assert "from 0.9 on count alike" in CappedTopKMean(8).describe()


def test_an_extent_becomes_slices_at_the_distance_of_a_volume() -> None:
    rule = CappedExtentMean(40.0)
    assert [rule.at_step(step).k for step in (1.0, 2.5, 10.0, 100.0)] == [40, 16, 4, 1]
    slices = _random(60, 3)
    assert np.array_equal(rule.at_step(5.0)(slices), CappedTopKMean(8)(slices))
    assert Mean().at_step(5.0)(slices) == pytest.approx(Mean()(slices))
    for wrong in ((0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0), (10.0, 0.0)):
        with pytest.raises(UsageError, match="above 0"):
            CappedExtentMean(wrong[0], step_mm=wrong[1])


def test_the_page_explains_the_rule_of_the_configuration() -> None:
    page = (bundle_root() / "docs" / "README.md").read_text(encoding="utf-8")
    steps = page.partition("### From slices to the volume")[2].partition("\n## ")[0]
    config = yaml.safe_load((bundle_root() / "configs" / "inference.yaml").read_text(encoding="utf-8"))
    pooling, triage = config["pooling"], config["triage"]
    assert pooling["_target_"].endswith(CappedExtentMean.__name__)
    rule = CappedExtentMean(pooling["extent_mm"], pooling["ceiling"])
    for said in (
        f"by {triage['temperature']} before", f"scores {triage['support']['min_score']} or more",
        f"with {triage['support']['weight']} of", f"From {rule.ceiling} on", f"lie in {rule.extent_mm} mm",
        f"{rule.at_step(1.25).k} of slices 1.25 mm", f"{rule.at_step(5.0).k} of slices 5 mm",
    ):  # fmt: skip
        assert said in " ".join(steps.split())
