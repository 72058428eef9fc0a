"""From the class probabilities of slices to those of the volume, by a rule named in the configuration.

Every rule takes probabilities (n, 3) in the order Control, Common Pneumonia, COVID-19 and gives (3,) that lie
in [0, 1] and sum to 1. Slices come in reading order (`slice_sampling`), which matters to capped rules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import SliceClass

Probabilities = NDArray[np.float64]


class PoolingRule(ABC):
    """A way to pool slices; ``describe`` says it in a sentence for the result."""

    @abstractmethod
    def __call__(self, slices: Probabilities) -> Probabilities:
        """Return the probabilities (3,) of the volume from those of its slices (n, 3), n >= 1."""

    @abstractmethod
    def describe(self) -> str:
        """Return the rule in words."""

    def missing(self, slices: Probabilities) -> int | None:
        """Return how many more slices it takes at least until no other one can change the answer.

        None where that never is so, as with rules that look at all slices.
        """
        del slices
        return None

    def settled(self, slices: Probabilities) -> bool:
        """Tell whether no slice that is read after these can change the answer, whatever it shows."""
        return self.missing(slices) == 0

    def at_step(self, step_mm: float) -> PoolingRule:
        """Return the rule for slices of which one in each ``step_mm`` millimetres may be read."""
        del step_mm
        return self


class Mean(PoolingRule):
    """Mean over all slices: p_c = sum_i p_ic / n."""

    def __call__(self, slices: Probabilities) -> Probabilities:
        """See the class."""
        return _normalised(slices.mean(axis=0))

    def describe(self) -> str:
        """See the class."""
        return "mean of the class probabilities of all lung slices"


class TopKMean(PoolingRule):
    """Mean over the k slices that look least like Control: the largest 1 - P(Control).

    Parameters
    ----------
    k : int
        Number of slices; all of them where the volume has fewer.
    """

    def __init__(self, k: int) -> None:
        if k < 1:
            raise UsageError("SETTING", f"k is {k}, but top_k_mean needs at least one slice.")
        self.k = k

    def __call__(self, slices: Probabilities) -> Probabilities:
        """See the class."""
        # Equal evidence of disease is ordered by the other columns, so that ties give one answer.
        order = np.lexsort((slices[:, 2], slices[:, 1], slices[:, SliceClass.CONTROL]))
        return _normalised(slices[order[: self.k]].mean(axis=0))

    def describe(self) -> str:
        """See the class."""
        return f"mean of the class probabilities of the {self.k} lung slices least like Control"


class Max(TopKMean):
    """The one slice that looks least like Control."""

    def __init__(self) -> None:
        super().__init__(1)

    def describe(self) -> str:
        """See the class."""
        return "class probabilities of the lung slice least like Control"


class CappedTopKMean(TopKMean):
    """Mean over the k slices least like Control, where all that are sure enough of disease count alike.

    Of slices whose 1 - P(Control) reaches the ceiling, those come first that are read first; reading goes
    from coarse to fine, so they are spread over the lungs. Once k of them are read, no other slice can take
    their place: the answer is known exactly without the rest.

    Parameters
    ----------
    k : int
        Number of slices; all of them where the volume has fewer.
    ceiling : float
        1 - P(Control) from which on slices count alike.
    """

    def __init__(self, k: int, ceiling: float = 0.9) -> None:
        super().__init__(k)
        if not 0.0 < ceiling < 1.0:
            raise UsageError("SETTING", f"ceiling is {ceiling}, but must lie between 0 and 1.")
        self.ceiling = ceiling

    def __call__(self, slices: Probabilities) -> Probabilities:
        """See the class."""
        control = np.maximum(slices[:, SliceClass.CONTROL], 1.0 - self.ceiling)
        return _normalised(slices[np.argsort(control, kind="stable")[: self.k]].mean(axis=0))

    def describe(self) -> str:
        """See the class."""
        return (
            f"mean of the class probabilities of the {self.k} lung slices least like Control; slices with a "
            f"probability of disease from {self.ceiling:g} on count alike, those read first are taken"
        )

    def missing(self, slices: Probabilities) -> int:
        """See `PoolingRule`."""
        sure = np.count_nonzero(slices[:, SliceClass.CONTROL] <= 1.0 - self.ceiling)
        return max(0, self.k - int(sure))


class CappedExtentMean(CappedTopKMean):
    """`CappedTopKMean` of as many slices as lie in so many millimetres of lung.

    What one millimetre of disease weighs then depends neither on the distance of slices nor on how many of
    them are read: a fixed number of slices is a fingertip of a thin scan and half a lung of a thick one.

    Parameters
    ----------
    extent_mm : float
        Extent along the table axis; at least one slice is taken.
    ceiling : float
        1 - P(Control) from which on slices count alike.
    step_mm : float, optional
        Distance between the slices that may be read; `VolumeTriage` sets that of each volume. Until then, 1.
    """

    def __init__(self, extent_mm: float, ceiling: float = 0.9, step_mm: float | None = None) -> None:
        step = 1.0 if step_mm is None else step_mm
        if not (extent_mm > 0.0 and step > 0.0):
            raise UsageError(
                "SETTING", f"extent_mm is {extent_mm:g} and step_mm {step:g}, but both must be above 0."
            )
        super().__init__(max(1, round(extent_mm / step)), ceiling)
        self.extent_mm = extent_mm
        self.step_mm = step_mm

    def at_step(self, step_mm: float) -> CappedExtentMean:
        """See `PoolingRule`."""
        return CappedExtentMean(self.extent_mm, self.ceiling, step_mm)

    def describe(self) -> str:
        """See the class."""
        slices = "" if self.step_mm is None else f" ({self.k} slices, {self.step_mm:.3g} mm apart)"
        return (
            f"mean of the class probabilities of the {self.extent_mm:g} mm of lung least like Control"
            f"{slices}; "
            f"slices with a probability of disease from {self.ceiling:g} on count alike, those read first "
            "are taken"
        )


class NoisyOr(PoolingRule):
    """Disease unless every slice says Control: P(Control) = prod_i p_i,Control; the rest by mean share.

    Assumes that slices err independently, which neighbouring slices do not; it calls more volumes diseased
    the more slices they have.
    """

    def __call__(self, slices: Probabilities) -> Probabilities:
        """See the class."""
        control = float(np.exp(np.log(np.clip(slices[:, SliceClass.CONTROL], 1e-12, 1.0)).sum()))
        disease = slices[:, 1:].sum(axis=0)
        total = disease.sum()
        shares = disease / total if total > 0.0 else np.full(len(disease), 1.0 / len(disease))
        return np.concatenate([[control], (1.0 - control) * shares])

    def describe(self) -> str:
        """See the class."""
        return "noisy-or of the disease probabilities of all lung slices"


class SharePositive(PoolingRule):
    """Share of the slices whose most probable class is each one."""

    def __call__(self, slices: Probabilities) -> Probabilities:
        """See the class."""
        votes = np.bincount(slices.argmax(axis=1), minlength=slices.shape[1])
        return votes / votes.sum()

    def describe(self) -> str:
        """See the class."""
        return "share of the lung slices of each class"


_RULES = {
    "mean": Mean,
    "top_k_mean": TopKMean,
    "capped_top_k_mean": CappedTopKMean,
    "capped_extent_mean": CappedExtentMean,
    "max": Max,
    "noisy_or": NoisyOr,
    "share_positive": SharePositive,
}


def pooling_rule(name: str, settings: Mapping[str, Any] | None = None) -> PoolingRule:
    """Return the rule of a name.

    Raises
    ------
    UsageError
        If there is no such rule, or it does not take these settings.
    """
    if name not in _RULES:
        raise UsageError("SETTING", f"There is no pooling rule {name!r}; choose {', '.join(_RULES)}.")
    try:
        rule: PoolingRule = _RULES[name](**(settings or {}))
    except TypeError as error:
        raise UsageError(
            "SETTING", f"The pooling rule {name} does not take {sorted(settings or {})}."
        ) from error
    return rule


def _normalised(probabilities: Probabilities) -> Probabilities:
    return probabilities / probabilities.sum()
