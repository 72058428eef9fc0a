"""Confidence intervals by resampling patients, for slices of one patient are not independent.

Roberts et al. (2021) and CLAIM ask for the uncertainty of every estimate. Slices of COVIDx-CT's test list
come 72 to a patient: intervals over slices would be several times too narrow.

Where nobody, or everybody, is wrong, all resamples agree, and their interval would have no width with however
few patients. The exact interval (Clopper and Pearson 1934) of the patients that contribute stands there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.metrics.classification import confusion_matrix, figures_of_many

Floats = NDArray[np.float64]
REPLICATES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval: percentiles, or exact at 0 and 1.

    Attributes
    ----------
    estimate, low, high
        Of the sample, and the bounds; NaN where the figure does not exist.
    """

    estimate: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class ClassificationIntervals:
    """Intervals of all figures of `classification.ClassificationFigures`, classes in their order.

    Attributes
    ----------
    sensitivity, ppv, f1
        One interval a class.
    accuracy, weighted_f1
        Overall.
    patients
        Number of patients that were resampled.
    """

    sensitivity: tuple[Interval, ...]
    ppv: tuple[Interval, ...]
    f1: tuple[Interval, ...]
    accuracy: Interval
    weighted_f1: Interval
    patients: int


def classification_intervals(
    true: ArrayLike,
    predicted: ArrayLike,
    patients: Sequence[str],
    classes: int,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> ClassificationIntervals:
    """Return intervals of Eq. 3 to 6 by patient-clustered bootstrap.

    Parameters
    ----------
    true, predicted : (n,) of int
    patients : sequence of str
        Whose each item is.
    classes : int
    seed, replicates : int
        The same seed gives the same intervals.
    """
    truth, guess = np.asarray(true, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    names, owner = _clusters(patients, len(truth))
    by_patient = np.zeros((len(names), classes, classes))
    np.add.at(by_patient, (owner, truth, guess), 1)
    whole = confusion_matrix(truth, guess, classes)
    weights = _weights(len(names), replicates, seed)
    resampled = np.tensordot(weights, by_patient, axes=1)
    estimate, spread = figures_of_many(whole[None]), figures_of_many(resampled)
    # Patients with slices of a class, with slices taken for it, or with either.
    is_true, is_guess = by_patient.sum(axis=2) > 0, by_patient.sum(axis=1) > 0
    contributing = {"sensitivity": is_true, "ppv": is_guess, "f1": is_true | is_guess}

    def of_classes(name: str) -> tuple[Interval, ...]:
        counts = contributing[name].sum(axis=0)
        return tuple(
            _interval(estimate[name][0, c], spread[name][:, c], int(counts[c])) for c in range(classes)
        )

    return ClassificationIntervals(
        sensitivity=of_classes("sensitivity"),
        ppv=of_classes("ppv"),
        f1=of_classes("f1"),
        accuracy=_interval(estimate["accuracy"][0], spread["accuracy"], len(names)),
        weighted_f1=_interval(estimate["weighted_f1"][0], spread["weighted_f1"], len(names)),
        patients=len(names),
    )


def clustered_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    patients: Sequence[str],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
    proportion: bool = False,
) -> Interval:
    """Return the interval of any statistic by patient-clustered bootstrap.

    Parameters
    ----------
    statistic : callable
        Given the indices of the items of one resample (repeats included), returns a number.
    patients : sequence of str
        Whose each item is.
    proportion : bool
        Whether it is a share of the items, which has an exact interval where it is 0 or 1.
    """
    (interval,) = clustered_intervals(
        lambda items: [statistic(items)], patients, seed=seed, replicates=replicates, proportion=proportion
    )
    return interval


def clustered_intervals(
    statistics: Callable[[NDArray[np.int64]], Sequence[float]],
    patients: Sequence[str],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
    proportion: bool = False,
) -> list[Interval]:
    """Return the intervals of several statistics that are computed together (see `clustered_interval`)."""
    names, owner = _clusters(patients, len(patients))
    items = [np.flatnonzero(owner == index) for index in range(len(names))]
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(replicates):
        drawn = generator.integers(len(names), size=len(names))
        values.append(statistics(np.concatenate([items[index] for index in drawn])))
    estimates = statistics(np.arange(len(patients)))
    contributing = len(names) if proportion else 0
    return [
        _interval(estimate, np.asarray(column, dtype=np.float64), contributing)
        for estimate, column in zip(estimates, zip(*values, strict=True), strict=True)
    ]


def summed_intervals(
    values: ArrayLike,
    statistics: Callable[[Floats], ArrayLike],
    patients: Sequence[str],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> list[Interval]:
    """Return the intervals of figures that follow from sums over items, all resamples at once.

    Parameters
    ----------
    values : (n, k)
        What is added up.
    statistics : callable
        From sums (m, k) to figures (m, figures), NaN where one does not exist.
    patients : sequence of str
        Whose each item is.
    seed, replicates : int
    """
    table = np.asarray(values, dtype=np.float64)
    names, owner = _clusters(patients, len(table))
    by_patient = np.zeros((len(names), table.shape[1]))
    np.add.at(by_patient, owner, table)
    spread = np.asarray(statistics(_weights(len(names), replicates, seed) @ by_patient), dtype=np.float64)
    (estimates,) = np.asarray(statistics(table.sum(axis=0)[None]), dtype=np.float64)
    return [_interval(one, column, 0) for one, column in zip(estimates, spread.T, strict=True)]


def _clusters(patients: Sequence[str], count: int) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    if len(patients) != count or not count:
        raise UsageError(
            "PATIENTS",
            f"There are {count} items and {len(patients)} patients; one a (present) item is needed.",
        )
    names, owner = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)
    return names, owner.astype(np.int64)


def _weights(patients: int, replicates: int, seed: int) -> Floats:
    """Return how often each patient was drawn, (replicates, patients)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(patients, np.full(patients, 1 / patients), size=replicates).astype(
        np.float64
    )


def _interval(estimate: float, values: Floats, contributing: int) -> Interval:
    """Return the percentile interval, or the exact one of so many patients; 0 for what is no proportion."""
    # A class may be missing from a resample; its figure is then undefined there.
    defined = values[~np.isnan(values)]
    if not defined.size:
        return Interval(float(estimate), float("nan"), float("nan"))
    if contributing and estimate in (0.0, 1.0) and (defined == estimate).all():
        exact = binomtest(round(estimate) * contributing, contributing).proportion_ci(LEVEL, method="exact")
        return Interval(float(estimate), float(exact.low), float(exact.high))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Interval(float(estimate), float(low), float(high))
