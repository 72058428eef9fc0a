"""Rules of a site for the choice of the series, by attributes of its images.

A rule has a name, an action and conditions, which must all hold. Results name the rule, never the values that
it met: a description may hold a patient's name. ``series_rules_file`` reads rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from pydicom.dataset import Dataset


class Action(StrEnum):
    """What a rule does with a series that it holds for; ``require`` excludes those it does not hold for."""

    PREFER = "prefer"
    AVOID = "avoid"
    EXCLUDE = "exclude"
    REQUIRE = "require"


@dataclass(frozen=True, eq=False)
class SeriesRule:
    """One rule.

    Attributes
    ----------
    name
        How results call it.
    action
        What it does.
    points
        Of the score: positive to prefer, negative to avoid, else 0.
    conditions
        On the header of an image.
    """

    name: str
    action: Action
    points: float
    conditions: tuple[Callable[[Dataset], bool], ...]

    def holds(self, images: Iterable[Dataset]) -> bool:
        """Tell whether the rule holds for a series with these images.

        To be preferred, or to have what is required, all images must meet the conditions; one that does is
        enough to avoid or exclude the series.
        """
        met = (all(condition(image) for condition in self.conditions) for image in images)
        return any(met) if self.action in (Action.AVOID, Action.EXCLUDE) else all(met)
