"""Sensitivity, PPV, accuracy and class-weighted F1 of slice classes (paper, Eq. 3 to 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_ct_mask_net.errors import UsageError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassificationFigures:
    """What a confusion matrix says.

    Attributes
    ----------
    confusion
        (classes, classes): rows are true, columns predicted classes.
    sensitivity, ppv, f1
        (classes,) in [0, 1]; NaN where a class does not occur, or is never predicted.
    accuracy, weighted_f1
        Overall; F1 of the classes weighted by how often they occur (Eq. 6).
    """

    confusion: Floats
    sensitivity: Floats
    ppv: Floats
    f1: Floats
    accuracy: float
    weighted_f1: float


def confusion_matrix(true: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Count predictions by true class (rows) and predicted class (columns).

    Parameters
    ----------
    true, predicted : (n,) of int
        Class ids.
    classes : int

    Raises
    ------
    UsageError
        If lengths differ or an id is not below ``classes``.
    """
    truth, guess = np.asarray(true, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if truth.shape != guess.shape or truth.ndim != 1:
        raise UsageError(
            "PREDICTIONS",
            f"There are {truth.shape} true and {guess.shape} predicted classes; pairs are needed.",
        )
    both = np.concatenate([truth, guess])
    if both.size and not 0 <= both.min() <= both.max() < classes:
        raise UsageError(
            "SLICE_CLASS",
            f"Class ids run from {both.min()} to {both.max()}, but there are {classes} classes.",
        )
    counts = np.bincount(truth * classes + guess, minlength=classes * classes)
    return counts.reshape(classes, classes)


def figures(confusion: ArrayLike) -> ClassificationFigures:
    """Return all figures of one confusion matrix (classes, classes)."""
    matrix = np.asarray(confusion, dtype=np.float64)
    many = figures_of_many(matrix[None])
    return ClassificationFigures(
        confusion=matrix,
        sensitivity=many["sensitivity"][0],
        ppv=many["ppv"][0],
        f1=many["f1"][0],
        accuracy=float(many["accuracy"][0]),
        weighted_f1=float(many["weighted_f1"][0]),
    )


def figures_of_many(confusions: ArrayLike) -> dict[str, Floats]:
    """Return the figures of several confusion matrices at once, for the bootstrap.

    Parameters
    ----------
    confusions : (n, classes, classes)

    Returns
    -------
    dict
        ``sensitivity``, ``ppv``, ``f1`` (n, classes); ``accuracy``, ``weighted_f1`` (n,).
    """
    matrices = np.asarray(confusions, dtype=np.float64)
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    occur, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    total = occur.sum(axis=1)
    f1 = _ratio(2 * hits, occur + predicted)
    return {
        "sensitivity": _ratio(hits, occur),
        "ppv": _ratio(hits, predicted),
        "f1": f1,
        "accuracy": _ratio(hits.sum(axis=1), total),
        "weighted_f1": _ratio(np.where(occur > 0, f1 * occur, 0).sum(axis=1), total),
    }


def predictive_values(confusion: ArrayLike, prevalence: Sequence[float]) -> tuple[Floats, Floats]:
    """Return PPV and NPV of each class as they would be at another prevalence (Bayes).

    44.6 % of COVIDx-CT's test slices are normal; in screening nearly all are, and PPV falls with prevalence
    while sensitivity does not.

    Parameters
    ----------
    confusion : (classes, classes)
        Rows are true classes; each must occur.
    prevalence : sequence of float
        Of each class; must add up to 1.

    Returns
    -------
    ppv, npv : (classes,)

    Raises
    ------
    UsageError
        If prevalences do not fit the matrix or do not add up to 1, or a class does not occur.
    """
    matrix = np.asarray(confusion, dtype=np.float64)
    share = np.asarray(prevalence, dtype=np.float64)
    if share.shape != (len(matrix),) or (share < 0).any() or abs(share.sum() - 1) > 1e-6:
        raise UsageError(
            "PREVALENCE",
            f"Prevalences are {list(prevalence)}; {len(matrix)} numbers from 0 to 1 that add up to 1 were "
            "expected.",
        )
    if (matrix.sum(axis=1) == 0).any():
        raise UsageError("CLASS_MISSING", "A class does not occur, so that its sensitivity is unknown.")
    # P(true, predicted) at that prevalence.
    joint = matrix / matrix.sum(axis=1, keepdims=True) * share[:, None]
    hits, predicted = np.diagonal(joint), joint.sum(axis=0)
    ppv = _ratio(hits, predicted)
    npv = _ratio(1 - share - predicted + hits, 1 - predicted)
    return ppv, npv


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.full(shape, np.nan), where=np.asarray(denominator) != 0)
