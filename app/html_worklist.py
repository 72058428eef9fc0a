"""``worklist.html``: the studies of an output folder in reading order, with links to their pages."""

from __future__ import annotations

from collections.abc import Container, Sequence
from html import escape

from covid_ct_mask_net.app.html_page import page
from covid_ct_mask_net.app.sentences import model_notice
from covid_ct_mask_net.worklist import WorklistEntry, reading_order

_HEADINGS = ("Study", "Priority", "Answer", "Lesions", "Involved")


def html_worklist(entries: Sequence[WorklistEntry], pages: Container[str]) -> str:
    """Return the page of an output folder.

    Parameters
    ----------
    entries : sequence of WorklistEntry
        In the order in which their studies came.
    pages : container of str
        Pseudonyms of the studies that have a page of their own.
    """
    head = "".join(f'<th scope="col">{heading}</th>' for heading in _HEADINGS)
    rows = "\n".join(_row(entry, linked=entry.pseudonym in pages) for entry in reading_order(entries))
    count = "1 study" if len(entries) == 1 else f"{len(entries)} studies"
    body = (
        f"<p>{count} in reading order. Triage only moves a study up, never down.</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'
    )
    notices = sorted({model_notice(entry.model) for entry in entries if entry.model is not None})
    return page("Chest CT worklist", body, notices)


def _row(entry: WorklistEntry, *, linked: bool) -> str:
    name, answer = escape(entry.pseudonym), entry.answer
    shown = f"<code>{name}</code>"
    first = f'<td><a href="{name}/report.html">{shown}</a></td>' if linked else f"<td>{shown}</td>"
    if answer is None:
        reasons = " ".join(f"{reason.sentence} ({reason.code})" for reason in entry.reasons)
        return f"<tr>{first}<td></td><td>Not assessed. {escape(reasons)}</td><td></td><td></td></tr>"
    probability = answer.probabilities[answer.predicted_class]
    return (
        f'<tr>{first}<td class="{answer.priority.value}">{answer.priority.value}</td>'
        f"<td>{escape(answer.predicted_class.label)} {probability:.0%}{_warnings(entry)}</td>"
        f"<td class=n>{answer.lesions}</td><td class=n>{answer.involvement_percent:.1f} %</td></tr>"
    )


def _warnings(entry: WorklistEntry) -> str:
    """Return the codes of what limits an answer, on a line of their own."""
    codes = ", ".join(warning.code for warning in entry.warnings)
    return f"<br><small>{escape(codes)}</small>" if codes else ""
