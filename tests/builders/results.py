"""Results of studies, without running anything."""

from __future__ import annotations

import dataclasses

import numpy as np

from builders.evidence import MODEL, SHAPE, evidence, grid, rectangle, two_lungs
from covid_ct_mask_net import assemble
from covid_ct_mask_net.errors import CovidCTMaskNetError
from covid_ct_mask_net.results import StudyResult
from covid_ct_mask_net.triage.pooling import Mean
from covid_ct_mask_net.triage.volume_triage import TriageOutcome, VolumeTriage

LOGITS = {"urgent": (0.0, 0.0, 8.0), "raised": (0.0, 0.2, 0.2), "routine": (6.0, 0.0, 0.0)}


def outcome(priority: str = "urgent") -> TriageOutcome:
    """One GGO on slices 4 and 5; the slices' logits give the priority."""
    slices = [evidence(k, rectangle(k), logits=LOGITS[priority]) for k in (4, 5)]
    if priority != "urgent":
        slices = [dataclasses.replace(one, instances=()) for one in slices]
    hu = np.full(SHAPE, -800, dtype=np.float32)
    return VolumeTriage(Mean())(hu, two_lungs(), grid(), slices, "study", MODEL)


def source(number: int = 1, **changes) -> assemble.Source:
    """A DICOM study."""
    known = assemble.Source(
        pseudonym=f"{number:012x}", kind="dicom", key=f"1.2.{number}", study_instance_uid=f"1.2.{number}"
    )
    return dataclasses.replace(known, **changes)


def assessed(priority: str = "urgent", number: int = 1) -> StudyResult:
    """A study with a class."""
    return assemble.assessed(source(number), outcome(priority), MODEL)


def declined(error: CovidCTMaskNetError, number: int = 1) -> StudyResult:
    """A study without one."""
    return assemble.declined(source(number), error, MODEL)
