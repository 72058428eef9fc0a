"""The result of a study in sentences and table rows, for reports that people read."""

from __future__ import annotations

from collections.abc import Sequence

from covid_ct_mask_net.labels import Side, SliceClass
from covid_ct_mask_net.results import LesionReport, ModelReport, StudyResult, TriageReport

LESION_HEADINGS = ("Lesion", "Type", "Place", "Slices", "Volume (ml)", "Mean HU", "Score")
LESION_NOTE = (
    "Slices are counted from the feet, the first is 1; they are not Instance Numbers. Score: the detector's "
    "own, the highest over the slices; not a probability."
)


def answer(result: StudyResult) -> list[str]:
    """Return what is said about a study, the most important first; all probabilities are `probabilities`."""
    triage = result.triage
    if triage is None:
        return [f"Not assessed: {reason.sentence} ({reason.code})" for reason in result.reasons]
    lines = [
        f"Class: {triage.predicted_class.label}, {_whole(triage.probabilities[triage.predicted_class])}.",
        f"Priority: {triage.priority.value}, because {triage.priority_rule}.",
        f"The study's probabilities are the {triage.pooling_rule}.",
        f"{triage.positive_slices} of {triage.assessed_slices} assessed slices are not of class Control.",
    ]
    if result.sampling is not None and result.sampling.skipped_slices:
        lines.append(result.sampling.sentence)
    if result.involvement is not None and result.lesions:
        total, sides = result.involvement.total, result.involvement.sides
        each = ", ".join(f"{side.value} {sides[side].percent:.1f} %" for side in Side if side in sides)
        lines.append(
            f"Lesions take {total.percent:.1f} % of the lungs ({each}): ground-glass opacity "
            f"{total.ground_glass_opacity_ml:.1f} ml, consolidation {total.consolidation_ml:.1f} ml."
        )
    lines.append(_count(len(result.lesions)))
    if result.model is not None:
        lines.append(model_notice(result.model))
    return lines


def probabilities(triage: TriageReport) -> list[tuple[SliceClass, str]]:
    """Return the probability of each class in words, in the order of the classes."""
    return [(c, f"{100 * triage.probabilities[c]:.1f} %") for c in SliceClass]


def model_notice(model: ModelReport) -> str:
    """Return what holds for all answers of a model."""
    return f"Model: {model.notice}."


def lesion_rows(lesions: Sequence[LesionReport]) -> list[tuple[str, ...]]:
    """Return a table of lesions, headings first."""
    return [LESION_HEADINGS, *(_row(lesion) for lesion in lesions)]


def _row(lesion: LesionReport) -> tuple[str, ...]:
    first, last = lesion.first_slice + 1, lesion.last_slice + 1
    return (
        str(lesion.number),
        lesion.lesion_class.label,
        f"{lesion.side.value} lung, {lesion.zone.value} third",
        str(first) if first == last else f"{first} to {last}",
        f"{lesion.volume_ml:.2f}",
        f"{lesion.mean_hu:.0f}",
        f"{100 * lesion.certainty:.0f} %",
    )


def _whole(share: float) -> str:
    """Return a probability in whole per cents; no rounding makes it a certainty."""
    per_cent = round(100 * share)
    return "over 99 %" if per_cent == 100 else f"{per_cent} %"


def _count(lesions: int) -> str:
    if lesions == 0:
        return "No lesion was found."
    return f"{lesions} lesion{'s were' if lesions > 1 else ' was'} found."
