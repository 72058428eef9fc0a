"""The figures in the README of the bundle, made from the report on its weights.

They stand between two marks, so that a new report replaces them and nothing else; `bundle_metrics` writes
them together with those of the metadata.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.release.report_text import interval, table

BEGIN = "<!-- Made by covid_ct_mask_net.training.release.bundle_metrics: do not edit up to the end mark. -->"
END = "<!-- End of what bundle_metrics makes. -->"
_DICE = {"lesion": "Dice, both classes together", "ggo": "Dice, GGO", "consolidation": "Dice, consolidation"}
_SCANS = {
    "accuracy": "accuracy, three classes",
    "disease_sensitivity": "sensitivity for disease",
    "disease_specificity": "specificity for disease",
}


def figures(report: Mapping[str, Any]) -> str:
    """Return the figures of a report as Markdown; parts that were not measured are left out."""
    model = report["model"]
    rows: list[list[str]] = []
    if "expert_slices" in report:
        found = report["expert_slices"]
        rows += _lesions(f"{found['slices']} expert-labelled slices (COVID-SemiSeg), not trained on", found)
    if "synthetic_slices" in report:
        found = report["synthetic_slices"]
        rows += _lesions(f"{found['slices']} slices of held-out synthetic patients", found)
    if "synthetic_scans" in report:
        found = report["synthetic_scans"]
        where = f"{found['assessed']} held-out synthetic scans"
        rows += _measures(where, found["scan_level"], _SCANS)
    parts = [
        f"Weights: {model['name']}, version {model['version']}, sha256 `{model['sha256'][:16]}…`.\n"
        "Figures in square brackets are 95 % intervals over patients.",
        table(["measured on", "measure", "found"], rows),
    ]
    if report.get("real_series"):
        parts.append(_real(report["real_series"]))
    return "\n\n".join(parts)


def with_figures(text: str, report: Mapping[str, Any], path: Path) -> str:
    """Return a README with the figures of a report between its marks.

    Parameters
    ----------
    text : str
        The README.
    report : mapping
        Content of ``model_report.json``.
    path : Path
        Where the README is, for the message.

    Raises
    ------
    RefusedInputError
        ``README_MARKS`` unless both marks are there once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in before + after:
        raise RefusedInputError(
            "README_MARKS",
            f"{path} must hold the line {BEGIN!r} once and after it {END!r} once; put them around the "
            "figures of its section Performance.",
        )
    return f"{before}{BEGIN}\n{figures(report)}\n{END}{after}"


def _lesions(where: str, found: Mapping[str, Any]) -> list[list[str]]:
    average = f"{found['mask_ap']['ap']:.3f}, {found['mask_ap']['ap50']:.3f}"
    return [*_measures(where, found["dice"], _DICE), [where, "mask AP, AP50", average]]


def _measures(where: str, found: Mapping[str, Any], names: Mapping[str, str]) -> list[list[str]]:
    # What no case could be measured by is no number in a report.
    known = {key: name for key, name in names.items() if math.isfinite(found[key]["value"])}
    return [[where, name, interval(found[key])] for key, name in known.items()]


def _real(rows: Sequence[Mapping[str, Any]]) -> str:
    diseased = sum(row["class"] != SliceClass.CONTROL.label for row in rows if "class" in row)
    assessed = sum("class" in row for row in rows)
    unread = f" ({len(rows) - assessed} more were not assessed)" if assessed < len(rows) else ""
    lines = [[row["series"], row.get("class", "not assessed")] for row in rows]
    return (
        f"**Of {assessed} real series without COVID-19{unread}, {diseased} are called diseased: do not trust "
        "the class of a real scan.**\n\n" + table(["real series without COVID-19", "class"], lines)
    )
