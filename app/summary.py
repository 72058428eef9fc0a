"""The table at the end of a triage run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES
from covid_ct_mask_net.worklist import WorklistEntry, reading_order

_HEADINGS = ("study", "status", "class", *(f"P({name})" for name in SLICE_CLASS_NAMES), "lungs", "lesions",
             "involved", "priority")  # fmt: skip


def summary_table(entries: Sequence[WorklistEntry], output: Path) -> str:
    """Return a text table with one line a study, and what holds for all of them.

    Parameters
    ----------
    entries : sequence of WorklistEntry
        Of the run, in any order; printed in reading order.
    output : Path
        Where the results lie.
    """
    entries = reading_order(entries)
    rows = [_HEADINGS, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    notices = sorted({entry.model.notice for entry in entries if entry.model is not None})
    warned = [_warnings(entry) for entry in entries if entry.warnings]
    if warned:
        lines += ["", "Warnings, in sentences in result.json and report.html:", *warned]
    lines += ["", f"Results: {output}"]
    lines += [f"Model: {notice}." for notice in notices]
    lines.append(RESEARCH_NOTICE)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _warnings(entry: WorklistEntry) -> str:
    return f"  {entry.pseudonym}  {', '.join(warning.code for warning in entry.warnings)}"


def _row(entry: WorklistEntry) -> tuple[str, ...]:
    answer = entry.answer
    if answer is None:
        reason = entry.reasons[0].code if entry.reasons else ""
        return (entry.pseudonym, entry.status.value, reason, *("" for _ in _HEADINGS[3:]))
    return (
        entry.pseudonym,
        entry.status.value,
        answer.predicted_class.label,
        *(f"{p:.3f}" for p in answer.probabilities),
        f"{answer.lung_ml / 1000:.1f} l",
        str(answer.lesions),
        f"{answer.involvement_percent:.1f} %",
        answer.priority.value,
    )
