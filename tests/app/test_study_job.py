from __future__ import annotations

import contextlib
import time
from pathlib import Path

from builders.results import source
from covid_ct_mask_net.app.study_job import StudyJob, counted


def test_time_of_a_stage_adds_up_and_is_kept_when_it_fails() -> None:
    job = StudyJob(source())
    for _ in range(2):
        with contextlib.suppress(ZeroDivisionError), job.timed("load"):
            time.sleep(0.01)
            _ = 1 / 0
    assert job.seconds["load"] >= 0.02


def test_pixels_are_let_go_of_and_the_result_stays(tmp_path: Path) -> None:
    job = StudyJob(source(), nifti=tmp_path, data={"volume": object()})
    job.release()
    assert job.data == {}
    assert job.volume is None
    assert job.source.pseudonym == source().pseudonym


def test_files_by_outcome_in_the_order_of_the_codes() -> None:
    assert list(counted({"UNREADABLE": 2, "NOT_DICOM": 1}, 7).items()) == [
        ("accepted", 7),
        ("NOT_DICOM", 1),
        ("UNREADABLE", 2),
    ]
