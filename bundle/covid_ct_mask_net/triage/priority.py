"""Reading priority of a volume, with the rule that gave it. It only ever moves a study up the list."""

from __future__ import annotations

from dataclasses import dataclass

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.results import Priority


@dataclass(frozen=True)
class PriorityRules:
    """Thresholds of the priority.

    Attributes
    ----------
    urgent_probability, urgent_percent
        Urgent if 1 - P(Control), or the involvement of the lungs in per cent, reaches this.
    raised_probability, raised_percent
        Raised likewise.
    """

    urgent_probability: float = 0.9
    urgent_percent: float = 25.0
    raised_probability: float = 0.5
    raised_percent: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.raised_probability <= self.urgent_probability <= 1.0:
            raise UsageError(
                "SETTING",
                f"raised_probability is {self.raised_probability} and urgent_probability "
                f"{self.urgent_probability}, but must be in this order within 0 to 1.",
            )
        if not 0.0 <= self.raised_percent <= self.urgent_percent <= 100.0:
            raise UsageError(
                "SETTING",
                f"raised_percent is {self.raised_percent} and urgent_percent {self.urgent_percent}, but must "
                "be in this order within 0 to 100.",
            )


def prioritise(
    probabilities: tuple[float, float, float], percent: float, rules: PriorityRules
) -> tuple[Priority, str]:
    """Return the priority and the rule that gave it, in words.

    Parameters
    ----------
    probabilities : tuple of float
        Of the volume, in class order.
    percent : float
        Involvement of the lungs, 0 to 100.
    rules : PriorityRules
        Thresholds.
    """
    disease = 1.0 - probabilities[SliceClass.CONTROL]
    levels = (
        (Priority.URGENT, rules.urgent_probability, rules.urgent_percent),
        (Priority.RAISED, rules.raised_probability, rules.raised_percent),
    )
    for priority, least_probability, least_percent in levels:
        if disease >= least_probability:
            return priority, f"probability of disease {disease:.3f} is at least {least_probability:g}"
        if percent >= least_percent:
            return priority, f"involvement of {percent:.1f} % of the lungs is at least {least_percent:g} %"
    return Priority.ROUTINE, (
        f"probability of disease {disease:.3f} is below {rules.raised_probability:g} and involvement of "
        f"{percent:.1f} % of the lungs below {rules.raised_percent:g} %"
    )
