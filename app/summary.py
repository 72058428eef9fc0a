"""The table at the end of a triage run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES
from covid_ct_mask_net.results import StudyResult
from covid_ct_mask_net.worklist import reading_order

_HEADINGS = ("study", "status", "class", *(f"P({name})" for name in SLICE_CLASS_NAMES), "lungs", "lesions",
             "involved", "priority")  # fmt: skip


def summary_table(results: Sequence[StudyResult], output: Path) -> str:
    """Return a text table with one line a study, and what holds for all of them.

    Parameters
    ----------
    results : sequence of StudyResult
        In any order; printed in reading order.
    output : Path
        Where the results lie.
    """
    results = reading_order(results)
    rows = [_HEADINGS, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    notices = sorted({result.model.notice for result in results if result.model is not None})
    warned = [_warnings(result) for result in results if result.warnings]
    if warned:
        lines += ["", "Warnings, in sentences in result.json and report.html:", *warned]
    lines += ["", f"Results: {output}"]
    lines += [f"Model: {notice}." for notice in notices]
    lines.append(RESEARCH_NOTICE)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _warnings(result: StudyResult) -> str:
    return f"  {result.pseudonym}  {', '.join(warning.code for warning in result.warnings)}"


def _row(result: StudyResult) -> tuple[str, ...]:
    triage, involvement = result.triage, result.involvement
    if triage is None or involvement is None:
        reason = result.reasons[0].code if result.reasons else ""
        return (result.pseudonym, result.status.value, reason, *("" for _ in _HEADINGS[3:]))
    return (
        result.pseudonym,
        result.status.value,
        triage.predicted_class.label,
        *(f"{p:.3f}" for p in triage.probabilities),
        f"{involvement.total.lung_ml / 1000:.1f} l",
        str(len(result.lesions)),
        f"{involvement.total.percent:.1f} %",
        triage.priority.value,
    )
