from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from builders.dicom import make_ct_series
from covid_ct_mask_net.app import intake
from covid_ct_mask_net.app.waiting_studies import WaitingStudies


@pytest.fixture
def studies(tmp_path: Path) -> tuple[intake.Study, ...]:
    for number in range(3):
        make_ct_series(tmp_path / str(number), study_uid=f"1.2.826.{number + 1}")
    return intake.scan([tmp_path]).studies


def test_studies_come_out_as_they_went_in(studies: tuple[intake.Study, ...]) -> None:
    waiting = WaitingStudies(studies)
    assert len(waiting) == len(studies) == 3
    for number, (before, after) in enumerate(zip(studies, waiting, strict=True)):
        assert len(waiting) == 2 - number
        assert after.pseudonym == before.pseudonym
        for old, new in zip(before.series[0].instances, after.series[0].instances, strict=True):
            assert (new.path, new.size, new.modified) == (old.path, old.size, old.modified)
            assert new.header == old.header
            assert new.header.file_meta == old.header.file_meta
            assert list(new.header.keys()) == list(old.header.keys())


def test_those_that_wait_are_small_and_those_that_are_out_are_let_go(
    studies: tuple[intake.Study, ...],
) -> None:
    waiting = WaitingStudies(studies)
    instances = len(studies[1].series[0].instances)
    # As pydicom holds it, a header takes some 15 kB.
    assert max(map(len, waiting._packed)) < 500 * instances
    taken = iter(waiting)
    next(taken)
    held = weakref.ref(next(taken))
    next(taken)
    gc.collect()
    assert held() is None
