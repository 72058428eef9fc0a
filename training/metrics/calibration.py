"""Whether probabilities mean what they say: reliability diagram, ECE, Brier score, temperature scaling.

Logits of this architecture reach tens (the original's README shows -27.15, -15.09, 16.2), which softmax turns
into certainty; a temperature fitted on validation slices repairs that without changing any class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.metrics.bootstrap import REPLICATES, Interval, summed_intervals

Floats = NDArray[np.float64]
BINS = 15
# Where all slices are right, the best temperature is 0; where labels are noise, it is infinite.
_COLDEST, _HOTTEST = 0.05, 100.0


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: confidence of the predicted class against how often it is right.

    Attributes
    ----------
    edges
        (bins + 1,) of confidence in [0, 1].
    confidence, accuracy
        (bins,) means in each bin; NaN where it is empty.
    count
        (bins,) number of items.
    ece
        Expected calibration error: mean of |accuracy - confidence| weighted by count, in [0, 1].
    """

    edges: Floats
    confidence: Floats
    accuracy: Floats
    count: NDArray[np.int64]
    ece: float


def probabilities(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Return the softmax of (n, classes) logits divided by a temperature."""
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1), dtype=np.float64)


def reliability(probability: ArrayLike, true: ArrayLike, bins: int = BINS) -> Reliability:
    """Return the reliability diagram of class probabilities.

    Parameters
    ----------
    probability : (n, classes)
    true : (n,) of int
    bins : int
        Of equal width.
    """
    chances, truth = _checked(probability, true)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == truth
    edges = np.linspace(0, 1, bins + 1)
    place = _bins_of(confidence, bins)
    count = np.bincount(place, minlength=bins)
    filled = np.maximum(count, 1)
    mean_confidence = np.bincount(place, weights=confidence, minlength=bins) / filled
    mean_right = np.bincount(place, weights=right, minlength=bins) / filled
    ece = float((np.abs(mean_right - mean_confidence) * count).sum() / max(len(truth), 1))
    empty = count == 0
    return Reliability(
        edges=edges,
        confidence=np.where(empty, np.nan, mean_confidence),
        accuracy=np.where(empty, np.nan, mean_right),
        count=count,
        ece=ece,
    )


def brier_score(probability: ArrayLike, true: ArrayLike) -> float:
    """Return the mean over items of the squared error summed over classes (Brier 1950), in [0, 2]."""
    chances, truth = _checked(probability, true)
    wanted = np.eye(chances.shape[1])[truth]
    return float(((chances - wanted) ** 2).sum(axis=1).mean())


def calibration_intervals(
    probability: ArrayLike,
    true: ArrayLike,
    patients: Sequence[str],
    *,
    bins: int = BINS,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> dict[str, Interval]:
    """Return intervals of ``ece`` and ``brier`` by patient-clustered bootstrap.

    ECE adds up absolute differences, which chance makes larger: that of resamples lies above that of the
    sample on average, and its interval may lie above it, too.

    Parameters
    ----------
    probability : (n, classes)
    true : (n,) of int
    patients : sequence of str
        Whose each item is.
    bins, seed, replicates : int
    """
    chances, truth = _checked(probability, true)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == truth
    squares = ((chances - np.eye(chances.shape[1])[truth]) ** 2).sum(axis=1)
    # Of each item: the surplus of confidence in its bin, the squared error, and one.
    surplus = np.eye(bins)[_bins_of(confidence, bins)] * (confidence - right)[:, None]
    values = np.column_stack([surplus, squares, np.ones(len(truth))])

    def figures(sums: Floats) -> Floats:
        count = sums[:, -1]
        return np.column_stack([np.abs(sums[:, :bins]).sum(axis=1) / count, sums[:, bins] / count])

    found = summed_intervals(values, figures, patients, seed=seed, replicates=replicates)
    return dict(zip(("ece", "brier"), found, strict=True))


def negative_log_likelihood(logits: ArrayLike, true: ArrayLike, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood of the true classes under a temperature."""
    scores, truth = _checked(logits, true)
    return float(-log_softmax(scores / temperature, axis=1)[np.arange(len(truth)), truth].mean())


def fit_temperature(logits: ArrayLike, true: ArrayLike) -> float:
    """Return the temperature that makes the true classes likeliest (Guo et al. 2017).

    Parameters
    ----------
    logits : (n, classes)
        Of *validation* slices; fitting on the test set would flatter it.
    true : (n,) of int

    Returns
    -------
    float
        From 0.05 to 100.
    """
    _checked(logits, true)
    found = minimize_scalar(
        lambda power: negative_log_likelihood(logits, true, float(np.exp(power))),
        bounds=(np.log(_COLDEST), np.log(_HOTTEST)),
        method="bounded",
    )
    return float(np.exp(found.x))


def _bins_of(confidence: Floats, bins: int) -> NDArray[np.int64]:
    """Return the bin of each confidence, bins open to the left."""
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, bins - 1)


def _checked(values: ArrayLike, true: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    table, truth = np.asarray(values, dtype=np.float64), np.asarray(true, dtype=np.int64)
    if table.ndim != 2 or truth.shape != (len(table),) or not len(table):
        raise UsageError(
            "PREDICTIONS",
            f"Scores have shape {table.shape} and classes {truth.shape}; (n, classes) and (n,) with n > 0 "
            "were expected.",
        )
    return table, truth
