"""How much a slice counts that S calls diseased and on which the detector outlines nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.evidence import SliceEvidence
from covid_ct_mask_net.labels import SliceClass


@dataclass(frozen=True)
class LesionSupport:
    """Disease on a slice counts in full where a lesion is outlined there, and in part elsewhere.

    S reads where regions rank highest, not whether one of them is a lesion; the detector says that. A slice
    that only one of them calls diseased is less likely to be. What a slice counts depends on the slice alone,
    so that reading may still stop early without a change of the answer.

    Attributes
    ----------
    min_score
        A lesion is outlined where one in the lungs has this score or more.
    weight
        Factor of the probabilities of disease of the other slices; what they lose, Control gets. 1 leaves
        them.
    """

    min_score: float = 0.5
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("min_score", "weight"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError("SETTING", f"{name} is {getattr(self, name)}, but must lie in 0 to 1.")

    def __call__(
        self, probabilities: NDArray[np.float64], evidence: Sequence[SliceEvidence]
    ) -> NDArray[np.float64]:
        """Return what slices count, (n, 3), from their probabilities (n, 3) and what was outlined on them."""
        return self.weighed(probabilities, np.array([one.lesion_score for one in evidence]))

    def weighed(self, probabilities: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the same from the lesion scores (n,) of the slices."""
        if self.weight == 1.0:
            return probabilities
        counted = probabilities.copy()
        alone = scores < self.min_score
        disease = counted[alone, SliceClass.CONTROL + 1 :]
        counted[alone, SliceClass.CONTROL + 1 :] = disease * self.weight
        counted[alone, SliceClass.CONTROL] += disease.sum(axis=1) * (1.0 - self.weight)
        return counted

    def describe(self) -> str:
        """Return the rule in words; empty where it changes nothing."""
        if self.weight == 1.0:
            return ""
        return (
            f"slices on which no lesion scores {self.min_score:g} or more count with {self.weight:g} of "
            "their probability of disease"
        )
