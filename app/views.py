"""The pictures that show a study to people: its key slices, or those of a study without lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.app.findings import Findings
from covid_ct_mask_net.app.key_slices import KeySlice, choose_key_slices, suspicious_slices
from covid_ct_mask_net.app.overlays import draw_slice, lesions_on
from covid_ct_mask_net.app.report_settings import MOST_KEY_IMAGES
from covid_ct_mask_net.results import StudyResult


@dataclass(frozen=True, eq=False)
class View:
    """A key slice with its picture, RGB uint8 (height, width, 3), and its position z in the patient (mm)."""

    key: KeySlice
    picture: NDArray[np.uint8]
    position_mm: float


def views(result: StudyResult, findings: Findings) -> tuple[View, ...]:
    """Return the views of an assessed study.

    Up to three with lesions; without lesions as many slices that made the study's class, so that a reader can
    follow it, and one if that is Control.

    Parameters
    ----------
    result : StudyResult
        Assessed.
    findings : Findings
        Of the same study.
    """
    keys = choose_key_slices(findings.linked, findings.seen, MOST_KEY_IMAGES)
    if not keys:
        # One to one: canonical slices are those of the source, whichever axis it has them along.
        canonical = {findings.grid.source_slice(k): k for k in range(findings.hu.shape[2])}
        indices = [canonical[report.source_index] for report in result.slices]
        most = 1 if result.triage is None or result.triage.negative else MOST_KEY_IMAGES
        keys = suspicious_slices(result.slices, indices, findings.seen, most)
    notice = "" if result.model is None else result.model.notice
    return tuple(_view(key, findings, notice) for key in keys)


def _view(key: KeySlice, findings: Findings, notice: str) -> View:
    position = findings.grid.slice_position(key.slice_index)
    captions = (
        f"Slice {key.slice_index + 1}, position z {position:.1f} mm: {key.reason}",
        f"Model: {notice}" if notice else "",
    )
    picture = draw_slice(
        findings.hu,
        findings.grid.affine,
        key.slice_index,
        lesions_on(findings.linked, key.slice_index),
        captions,
    )
    return View(key, picture, position)
