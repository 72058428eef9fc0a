"""The answer on one page, for archives that show PDF and no structured report."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.app.sentences import LESION_NOTE, answer, lesion_rows, probabilities
from covid_ct_mask_net.clock import now
from covid_ct_mask_net.results import StudyResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE_INCHES = (8.27, 11.69)
_MOST_LESIONS = 12
_LINE = 105
_WIDTHS = (0.08, 0.24, 0.26, 0.12, 0.12, 0.09, 0.09)


def pdf_report(result: StudyResult, pictures: Sequence[NDArray[np.uint8]]) -> bytes:
    """Return the PDF of a study; the same result gives the same bytes.

    Parameters
    ----------
    result : StudyResult
        Assessed or not.
    pictures : sequence of NDArray
        Up to three, RGB uint8 (height, width, 3).
    """
    # Not at the top: only who asks for a PDF waits for matplotlib.
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    figure = Figure(figsize=_PAGE_INCHES)
    FigureCanvasPdf(figure)
    figure.text(0.07, 0.955, "Chest CT triage", size=18, weight="bold")
    figure.text(0.07, 0.937, RESEARCH_NOTICE, size=8, color="#b3261e")
    y = 0.91
    warnings = [f"Warning: {warning.sentence} ({warning.code})" for warning in result.warnings]
    for number, sentence in enumerate((*_answer(result), *warnings)):
        for line in textwrap.wrap(sentence, _LINE if number else _LINE - 15):
            figure.text(
                0.07, y, line, size=9 if number else 11, weight="normal" if number else "bold", va="top"
            )
            y -= 0.016
        y -= 0.004
    y = _draw_pictures(figure, pictures[:3], y)
    header, *rows = lesion_rows(result.lesions[:_MOST_LESIONS])
    if rows:
        axes = figure.add_axes((0.07, 0.06, 0.86, y - 0.06))
        axes.set_axis_off()
        table = axes.table(
            cellText=rows, colLabels=header, loc="upper left", cellLoc="left", colWidths=_WIDTHS
        )
        table.auto_set_font_size(False)
        table.set_fontsize(8)
        figure.text(0.07, 0.052, LESION_NOTE, size=6)
        if len(result.lesions) > _MOST_LESIONS:
            left_out = len(result.lesions) - _MOST_LESIONS
            axes.set_title(f"{left_out} further lesions are in the structured report", size=8)
    software = ", ".join(f"{name} {version}" for name, version in list(result.software.items())[:1])
    figure.text(0.07, 0.04, f"Study {result.pseudonym}. {software}. {result.created}", size=7)
    buffer = io.BytesIO()
    metadata = {"Creator": None, "Producer": None, "CreationDate": now(), "Title": "Chest CT triage"}
    figure.savefig(buffer, format="pdf", metadata=metadata, dpi=200)
    return buffer.getvalue()


def _answer(result: StudyResult) -> list[str]:
    first, *others = answer(result) or ["No answer."]
    if result.triage is None:
        return [first, *others]
    # A page of texts has no bars to read them off.
    each = ", ".join(f"{c.label} {share}" for c, share in probabilities(result.triage))
    return [first, f"Probabilities: {each}.", *others]


def _draw_pictures(figure: Figure, pictures: Sequence[NDArray[np.uint8]], top: float) -> float:
    """Draw pictures side by side, each as large as there is room for, and return where they end."""
    if not pictures:
        return top
    width = min(0.45, 0.86 / len(pictures)) - 0.01
    height = max(
        width * picture.shape[0] / picture.shape[1] * _PAGE_INCHES[0] / _PAGE_INCHES[1]
        for picture in pictures
    )
    for number, picture in enumerate(pictures):
        axes = figure.add_axes((0.07 + (width + 0.01) * number, top - height, width, height))
        axes.imshow(picture)
        axes.set_axis_off()
    return top - height - 0.02
