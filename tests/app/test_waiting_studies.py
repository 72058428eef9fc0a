from __future__ import annotations

import gc
import weakref
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from builders.dicom import make_ct_series
from covid_ct_mask_net.app import intake
from covid_ct_mask_net.app.waiting_studies import WaitingStudies


@pytest.fixture
def studies(tmp_path: Path) -> tuple[intake.Study, ...]:
    for number in range(3):
        make_ct_series(tmp_path / str(number), study_uid=f"1.2.826.{number + 1}")
    return intake.scan([tmp_path]).studies


def _written(header: Dataset) -> bytes:
    buffer = BytesIO()
    # Objects that are no CT images keep what identifies them, and no file meta information.
    how = {} if hasattr(header, "file_meta") else {"implicit_vr": False, "little_endian": True}
    pydicom.dcmwrite(buffer, header, enforce_file_format=False, **how)
    return buffer.getvalue()


def _check_equal(before: intake.Study, after: intake.Study) -> None:
    assert after.pseudonym == before.pseudonym
    for one, other in zip(before.series, after.series, strict=True):
        assert (other.series_instance_uid, other.modality) == (one.series_instance_uid, one.modality)
        for old, new in zip(one.instances, other.instances, strict=True):
            assert (new.path, new.size, new.modified) == (old.path, old.size, old.modified)
            assert _written(new.header) == _written(old.header)
            assert getattr(new.header, "file_meta", None) == getattr(old.header, "file_meta", None)


def test_studies_come_out_as_they_went_in(studies: tuple[intake.Study, ...]) -> None:
    waiting = WaitingStudies(studies)
    assert len(waiting) == len(studies) == 3
    for number, (before, after) in enumerate(zip(studies, waiting, strict=True)):
        assert len(waiting) == 2 - number
        _check_equal(before, after)


def test_those_that_wait_are_small_and_those_that_are_out_are_let_go(
    studies: tuple[intake.Study, ...],
) -> None:
    waiting = WaitingStudies(studies)
    instances = len(studies[1].series[0].instances)
    packed = [one for one in waiting._waiting if isinstance(one, bytes)]
    assert len(packed) == 2
    # As pydicom holds it, a header takes some 15 kB.
    assert max(map(len, packed)) < 500 * instances
    taken = iter(waiting)
    next(taken)
    held = weakref.ref(next(taken))
    next(taken)
    gc.collect()
    assert held() is None


def test_a_study_that_cannot_be_packed_waits_as_it_is(studies: tuple[intake.Study, ...]) -> None:
    header = studies[1].series[0].instances[0].header
    header.OperatorsName = ["Curie^Marie", "Röntgen^Wilhelm"]
    # Read, as intake reads what names an object: the value then holds a function of pydicom's.
    assert len(pydicom.dcmread(BytesIO(_written(header)), force=True).OperatorsName) == 2
    again = pydicom.dcmread(BytesIO(_written(header)), force=True)
    header["OperatorsName"] = again["OperatorsName"]
    waiting = WaitingStudies(studies)
    assert [isinstance(one, bytes) for one in waiting._waiting] == [False, False, True]
    _, second, third = waiting
    assert second is studies[1]
    _check_equal(studies[2], third)


def test_headers_of_scanners_come_out_to_the_byte(shared_data: Path) -> None:
    found = intake.scan([shared_data / "chest-ct-dicom", shared_data / "odd-dicom"]).studies
    assert len(found) > 4
    waiting = WaitingStudies(found)
    assert sum(isinstance(one, bytes) for one in waiting._waiting) == len(found) - 1
    for before, after in zip(found, waiting, strict=True):
        _check_equal(before, after)
