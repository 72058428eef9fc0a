"""``worklist.html``: the studies of a run in reading order, with links to their pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from covid_ct_mask_net.app.html_page import page
from covid_ct_mask_net.app.sentences import model_notice
from covid_ct_mask_net.results import StudyResult
from covid_ct_mask_net.worklist import reading_order

_HEADINGS = ("Study", "Priority", "Answer", "Lesions", "Involved")


def html_worklist(results: Sequence[StudyResult]) -> str:
    """Return the page of a run, results in the order in which their studies came."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in _HEADINGS)
    rows = "\n".join(_row(result) for result in reading_order(results))
    count = "1 study" if len(results) == 1 else f"{len(results)} studies"
    body = (
        f"<p>{count} in reading order. Triage only moves a study up, never down.</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'
    )
    notices = sorted({model_notice(result.model) for result in results if result.model is not None})
    return page("Chest CT worklist", body, notices)


def _row(result: StudyResult) -> str:
    triage = result.triage
    name = escape(result.pseudonym)
    link = f'<td><a href="{name}/report.html"><code>{name}</code></a></td>'
    if triage is None:
        reasons = " ".join(f"{reason.sentence} ({reason.code})" for reason in result.reasons)
        return f"<tr>{link}<td></td><td>Not assessed. {escape(reasons)}</td><td></td><td></td></tr>"
    probability = triage.probabilities[triage.predicted_class]
    involved = "" if result.involvement is None else f"{result.involvement.total.percent:.1f} %"
    return (
        f'<tr>{link}<td class="{triage.priority.value}">{triage.priority.value}</td>'
        f"<td>{escape(triage.predicted_class.label)} {probability:.0%}{_warnings(result)}</td>"
        f"<td class=n>{len(result.lesions)}</td><td class=n>{involved}</td></tr>"
    )


def _warnings(result: StudyResult) -> str:
    """Return the codes of what limits an answer, on a line of their own."""
    codes = ", ".join(warning.code for warning in result.warnings)
    return f"<br><small>{escape(codes)}</small>" if codes else ""
