"""``worklist.json``: all studies of a run in reading order."""

from __future__ import annotations

import json
from collections.abc import Sequence

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.results import Priority, StudyResult

WORKLIST_SCHEMA = "covid-ct-mask-net/worklist/1"
_RANKS = {Priority.URGENT: 0, Priority.RAISED: 1, Priority.ROUTINE: 2}


def reading_order(results: Sequence[StudyResult]) -> list[StudyResult]:
    """Return the studies in reading order.

    Studies keep the order in which they came, except that urgent ones move to the front and raised ones
    behind those. A study is never moved down for what the model said of it, and one that could not be
    assessed keeps its place among the routine ones.
    """
    return sorted(results, key=lambda r: _RANKS[r.triage.priority if r.triage else Priority.ROUTINE])


def worklist(results: Sequence[StudyResult]) -> str:
    """Return the text of ``worklist.json`` for results in the order in which their studies came."""
    studies = [
        {
            "study_instance_uid": result.study_instance_uid,
            "result": f"{result.pseudonym}/result.json",
            "status": result.status.value,
            "reasons": [reason.code for reason in result.reasons],
            "priority": result.triage.priority.value if result.triage else None,
            "class": result.triage.predicted_class.label if result.triage else None,
            "probabilities": list(result.triage.probabilities) if result.triage else None,
            "involvement_percent": result.involvement.total.percent if result.involvement else None,
        }
        for result in reading_order(results)
    ]
    document = {"schema": WORKLIST_SCHEMA, "notice": RESEARCH_NOTICE, "studies": studies}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
