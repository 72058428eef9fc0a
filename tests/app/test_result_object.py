from __future__ import annotations

import io

import pydicom
import pytest
from pydicom.dataset import Dataset

from builders.result_set import made
from covid_ct_mask_net.app.result_object import file_bytes

KINDS = ("sr", "seg", "sc", "gsps", "kos", "pdf")


def test_kinds_differ_in_series_and_agree_in_device() -> None:
    identities = [made().objects.identity(kind) for kind in KINDS]
    assert len({one["series_instance_uid"] for one in identities}) == len(KINDS)
    assert len({one["series_number"] for one in identities}) == len(KINDS)
    assert len({one["device_serial_number"] for one in identities}) == 1
    assert max(len(one["series_description"]) for one in identities) <= 64


def test_one_time_stamp_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    dataset = Dataset()
    dataset.ContentDate = dataset.ContentTime = ""
    finished = made().objects.finish(dataset)
    assert (finished.ContentDate, finished.ContentTime) == ("20231114", "221320")
    assert finished.SeriesDate == "20231114"
    assert finished.PatientID == "PATIENT-1"


def test_files_begin_with_an_empty_preamble() -> None:
    content = file_bytes(made().read("sr.dcm"))
    assert content[:132] == bytes(128) + b"DICM"
    assert pydicom.dcmread(io.BytesIO(content)) == made().read("sr.dcm")
