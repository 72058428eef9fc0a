"""Fit the rule that makes one answer of a scan from those of its slices, on validation scans.

    python -m covid_ct_mask_net.training.release.rule --bundle DIR --cohort DIR --output rule.json

Pooling, temperature and what slices without a lesion count are those under which the true classes of the
scans are likeliest: on a few dozen scans, how many are right moves in steps too large to choose by. Of
temperatures that do about as well the highest is taken: at low ones each slice is a vote, and the order of
scans hangs on the slices that engines of another precision call differently. The threshold of priority
``raised`` is the highest one that still reaches the stated sensitivity for disease. All of it belongs to the
weights: other weights need another rule.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.pipeline import load_pipeline
from covid_ct_mask_net.training.files import write_text
from covid_ct_mask_net.training.release.scans import (
    AssessedScan,
    assess_cohort,
    counted,
    pooled,
    read_scans,
    write_scans,
)
from covid_ct_mask_net.triage.pooling import pooling_rule
from covid_ct_mask_net.triage.support import LesionSupport

SENSITIVITY = 0.95
_CANDIDATES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mean", {}),
    # Capped, so that reading may stop early.
    *(("capped_extent_mean", {"extent_mm": mm, "ceiling": 0.9}) for mm in (10, 20, 30, 40, 50, 60, 80, 100)),
    ("noisy_or", {}),
    ("share_positive", {}),
)
# Few, as there are few scans.
_SUPPORTS = (
    LesionSupport(),
    *(LesionSupport(score, weight) for score in (0.6, 0.7, 0.75, 0.8) for weight in (0.25, 0.5, 0.75)),
)
_TEMPERATURES = tuple(float(t) for t in np.exp(np.linspace(np.log(0.1), np.log(8), 27)))
# The mean loss may be this much higher, as a share of the least, for a higher temperature.
_GIVEN_UP = 0.03
# No probability counts as less: one scan must not decide.
_FLOOR = 1e-3


@dataclass(frozen=True)
class FittedRule:
    """A rule with what it reached on the scans that it was fitted on.

    Attributes
    ----------
    pooling, settings
        Name of the pooling rule and what it takes.
    temperature
        Divides the logits of slices.
    support
        What slices without a lesion count: what `LesionSupport` takes.
    threshold
        Of 1 - P(Control), for the sensitivity.
    sensitivity, specificity
        Of disease against Control at the threshold.
    accuracy, loss
        Over the three classes, and mean negative log-likelihood.
    scans
        How many it was fitted on.
    """

    pooling: str
    settings: dict[str, Any]
    temperature: float
    support: dict[str, float]
    threshold: float
    sensitivity: float
    specificity: float
    accuracy: float
    loss: float
    scans: int


def pooled_all(
    scans: Sequence[AssessedScan],
    pooling: str,
    settings: dict[str, Any],
    temperature: float,
    support: LesionSupport,
) -> NDArray[np.float64]:
    """Return the class probabilities (scans, 3) under a rule."""
    rule = pooling_rule(pooling, settings)
    return np.stack([pooled(scan, rule, temperature, support) for scan in scans])


def fit_rule(scans: Sequence[AssessedScan], sensitivity: float = SENSITIVITY) -> FittedRule:
    """Return the best rule.

    Parameters
    ----------
    scans : sequence of AssessedScan
        Validation scans; those that were not assessed are left out.
    sensitivity : float
        That the threshold has to reach, in (0, 1].

    Raises
    ------
    UsageError
        If there are no diseased or no healthy scans.
    """
    used = [scan for scan in scans if scan.logits and scan.scan_class is not None]
    true = np.array([scan.scan_class for scan in used], dtype=np.int64)
    diseased = true != SliceClass.CONTROL
    if not diseased.any() or diseased.all():
        raise UsageError("SCANS", "The rule needs validation scans with and without disease.")
    tried = []
    for support in _SUPPORTS:
        for temperature in _TEMPERATURES:
            slices = [counted(scan, temperature, support) for scan in used]
            for pooling, settings in _CANDIDATES:
                rule = pooling_rule(pooling, settings)
                chances = np.stack(
                    [rule.at_step(scan.step_mm)(one) for scan, one in zip(used, slices, strict=True)]
                )
                tried.append((*_score(chances, true), temperature, support, pooling, settings))
    best = min(tried, key=lambda one: one[0])
    alike = [one for one in tried if one[3:] == best[3:] and one[0] <= (1 + _GIVEN_UP) * best[0]]
    loss, accuracy, temperature, support, pooling, settings = max(alike, key=lambda one: one[2])
    disease = 1 - pooled_all(used, pooling, settings, temperature, support)[:, SliceClass.CONTROL]
    threshold = threshold_for(disease[diseased], sensitivity)
    return FittedRule(
        pooling=pooling,
        settings=settings,
        temperature=round(temperature, 3),
        support=asdict(support),
        threshold=threshold,
        sensitivity=float((disease[diseased] >= threshold).mean()),
        specificity=float((disease[~diseased] < threshold).mean()),
        accuracy=accuracy,
        loss=loss,
        scans=len(used),
    )


def threshold_for(disease: NDArray[np.float64], sensitivity: float) -> float:
    """Return the highest threshold, in steps of 0.01, that this share of diseased scans reaches.

    Never above 0.5: scans that are more likely diseased than not are raised in any case.
    """
    if not 0 < sensitivity <= 1:
        raise UsageError("SENSITIVITY", f"The sensitivity is {sensitivity}, but must lie in (0, 1].")
    needed = int(np.ceil(sensitivity * len(disease) - 1e-9))
    reached = np.sort(disease)[::-1][needed - 1]
    return float(min(0.5, np.floor(reached * 100) / 100))


def _score(chances: NDArray[np.float64], true: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean loss and the accuracy of class probabilities (scans, 3)."""
    right = np.clip(chances[np.arange(len(true)), true], _FLOOR, 1)
    return float(-np.log(right).mean()), float((chances.argmax(axis=1) == true).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, required=True, help="bundle folder with the weights")
    parser.add_argument("--cohort", type=Path, required=True, help="validation scans, from synthesize")
    parser.add_argument("--output", type=Path, required=True, help="rule.json; scans go beside it as .jsonl")
    parser.add_argument("--sensitivity", type=float, default=SENSITIVITY)
    options = parser.parse_args(arguments)
    stored = options.output.with_suffix(".jsonl")
    if not stored.exists():
        write_scans(stored, assess_cohort(load_pipeline(options.bundle), options.cohort))
    rule = fit_rule(read_scans(stored), options.sensitivity)
    write_text(options.output, json.dumps(asdict(rule), indent=2) + "\n")


if __name__ == "__main__":
    main()
