"""The result of a study in sentences and table rows, for reports that people read."""

from __future__ import annotations

from collections.abc import Sequence

from covid_ct_mask_net.labels import Side, SliceClass
from covid_ct_mask_net.results import LesionReport, ModelReport, StudyResult

LESION_HEADINGS = ("Lesion", "Type", "Place", "Slices", "Volume (ml)", "Mean HU", "Certainty")


def answer(result: StudyResult) -> list[str]:
    """Return what is said about a study, the most important first."""
    triage = result.triage
    if triage is None:
        return [f"Not assessed: {reason.sentence} ({reason.code})" for reason in result.reasons]
    probabilities = ", ".join(f"{c.label} {triage.probabilities[c]:.1%}" for c in SliceClass)
    lines = [
        f"Class: {triage.predicted_class.label} ({probabilities}).",
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
        f"{lesion.certainty:.0%}",
    )


def _count(lesions: int) -> str:
    if lesions == 0:
        return "No lesion was found."
    return f"{lesions} lesion{'s were' if lesions > 1 else ' was'} found."
