"""From slices to scans and patients: what a test list says at the level that patients come at.

A baseline for evaluation lists, whose slices were chosen to show lesions; triage of whole volumes has rules
of its own (`covid_ct_mask_net.triage`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_ct_mask_net.errors import RefusedInputError, UsageError

Floats = NDArray[np.float64]
METHODS = ("mean", "vote", "highest")


@dataclass(frozen=True, eq=False)
class Pooled:
    """Groups of slices, in order of first appearance.

    Attributes
    ----------
    groups
        What they were grouped by.
    true
        (groups,) class ids.
    probabilities
        (groups, classes), rows adding up to 1.
    slices
        (groups,) number of slices.
    """

    groups: tuple[Hashable, ...]
    true: NDArray[np.int64]
    probabilities: Floats
    slices: NDArray[np.int64]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Class ids (groups,)."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


def pool(
    probabilities: ArrayLike, true: ArrayLike, groups: Sequence[Hashable], method: str = "mean"
) -> Pooled:
    """Pool slices into scans or patients.

    Parameters
    ----------
    probabilities : (n, classes)
    true : (n,) of int
    groups : sequence of hashable
        Scan or patient of each slice.
    method : str
        ``mean`` of probabilities; ``vote``, the share of slices predicted so; ``highest`` probability of each
        class on any slice, scaled to add up to 1.

    Raises
    ------
    RefusedInputError
        If slices of one group have different classes; the sentence names the group.
    """
    if method not in METHODS:
        raise UsageError("POOLING", f"The pooling is {method!r}, but must be {', '.join(METHODS)}.")
    chances, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(true, dtype=np.int64)
    names = list(dict.fromkeys(groups))
    index_of = {name: index for index, name in enumerate(names)}
    owner = np.array([index_of[name] for name in groups], dtype=np.int64)
    pooled_true = np.zeros(len(names), dtype=np.int64)
    pooled = np.zeros((len(names), chances.shape[1]))
    for index, name in enumerate(names):
        members = owner == index
        classes = np.unique(truth[members])
        if len(classes) > 1:
            raise RefusedInputError(
                "CLASSES_MIXED",
                f"Slices of {name} have the classes {', '.join(map(str, classes))}; one was expected.",
            )
        pooled_true[index] = classes[0]
        pooled[index] = _pooled(chances[members], method)
    return Pooled(tuple(names), pooled_true, pooled, np.bincount(owner, minlength=len(names)))


def _pooled(chances: Floats, method: str) -> Floats:
    if method == "mean":
        return np.asarray(chances.mean(axis=0))
    if method == "vote":
        return np.bincount(chances.argmax(axis=1), minlength=chances.shape[1]) / len(chances)
    highest = chances.max(axis=0)
    return np.asarray(highest / highest.sum())
