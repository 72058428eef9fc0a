"""``worklist.json``: all studies of an output folder in reading order."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES, SliceClass
from covid_ct_mask_net.results import ModelReport, Priority, Reason, Status, StudyResult

WORKLIST_SCHEMA = "covid-ct-mask-net/worklist/1"
_RANKS = {Priority.URGENT: 0, Priority.RAISED: 1, Priority.ROUTINE: 2}


@dataclass(frozen=True)
class Answer:
    """What was found in a study: its triage, and volume (ml) and involvement (%) of both lungs."""

    priority: Priority
    predicted_class: SliceClass
    probabilities: tuple[float, float, float]
    lesions: int
    lung_ml: float
    involvement_percent: float

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Self:
        """Return the answer of the content of a ``result.json`` with a triage."""
        triage, total = document["triage"], document["involvement"]["total"]
        control, pneumonia, covid = triage["probabilities"]
        return cls(
            priority=Priority(triage["priority"]),
            predicted_class=SliceClass(SLICE_CLASS_NAMES.index(triage["predicted_class"])),
            probabilities=(control, pneumonia, covid),
            lesions=len(document["lesions"]),
            lung_ml=total["lung_ml"],
            involvement_percent=total["percent"],
        )


@dataclass(frozen=True)
class WorklistEntry:
    """What worklists and tables say of a study: its result without what takes memory.

    Attributes
    ----------
    pseudonym, study_instance_uid, status, reasons, warnings, created
        As in the result.
    model
        The model that spoke, without its engine.
    answer
        None for a study that was not assessed.
    """

    pseudonym: str
    study_instance_uid: str | None
    status: Status
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]
    created: str
    model: ModelReport | None
    answer: Answer | None

    @classmethod
    def of(cls, result: StudyResult) -> Self:
        """Return the entry of a result."""
        # By way of the document: what a run says of a study and what a later one reads of it cannot differ.
        return cls.of_document(dataclasses.replace(result, slices=(), series=()).to_dict())

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Self:
        """Return the entry of the content of a ``result.json`` that follows its schema."""
        model = document["model"]
        return cls(
            pseudonym=document["pseudonym"],
            study_instance_uid=document["study_instance_uid"],
            status=Status(document["status"]),
            reasons=tuple(Reason(**reason) for reason in document["reasons"]),
            warnings=tuple(Reason(**warning) for warning in document["warnings"]),
            created=document["created"],
            model=None if model is None else ModelReport(**{**model, "engine": None}),
            answer=None if document["triage"] is None else Answer.of_document(document),
        )


def reading_order(entries: Iterable[WorklistEntry]) -> list[WorklistEntry]:
    """Return the studies in reading order.

    Studies keep the order in which they came, except that urgent ones move to the front and raised ones
    behind those. A study is never moved down for what the model said of it, and one that could not be
    assessed keeps its place among the routine ones.
    """
    return sorted(entries, key=lambda e: _RANKS[e.answer.priority if e.answer else Priority.ROUTINE])


def worklist(entries: Sequence[WorklistEntry]) -> str:
    """Return the text of ``worklist.json`` for entries in the order in which their studies came."""
    studies = [
        {
            "study_instance_uid": entry.study_instance_uid,
            "result": f"{entry.pseudonym}/result.json",
            "status": entry.status.value,
            "reasons": [reason.code for reason in entry.reasons],
            "priority": entry.answer.priority.value if entry.answer else None,
            "class": entry.answer.predicted_class.label if entry.answer else None,
            "probabilities": list(entry.answer.probabilities) if entry.answer else None,
            "involvement_percent": entry.answer.involvement_percent if entry.answer else None,
        }
        for entry in reading_order(entries)
    ]
    document = {"schema": WORKLIST_SCHEMA, "notice": RESEARCH_NOTICE, "studies": studies}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
