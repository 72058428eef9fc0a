from __future__ import annotations

import dataclasses
import io

import pydicom
import pytest
from pydicom.dataset import Dataset

from builders.result_set import made
from covid_ct_mask_net.app.result_object import ResultObjects, file_bytes, is_result
from covid_ct_mask_net.results import Priority, Reason, Status

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


def test_names_are_written_as_they_came_where_the_character_set_holds_all_texts() -> None:
    one = made()
    assert one.sources.character_set == "ISO_IR 100"
    assert one.objects.character_set == "ISO_IR 100"
    images = [image["PatientName"].value.original_string for image in one.images.values()]
    assert set(images) == {one.read("sr.dcm")["PatientName"].value.original_string}


def test_texts_that_the_character_set_lacks_put_all_in_unicode() -> None:
    one = made()
    assert one.result.model is not None
    model = dataclasses.replace(one.result.model, notice="仅供研究使用")
    objects = ResultObjects.of(dataclasses.replace(one.result, model=model), one.sources)
    assert objects.character_set == "ISO_IR 192"
    assert objects.finish(Dataset()).SpecificCharacterSet == "ISO_IR 192"


def changed(**properties: object) -> ResultObjects:
    one = made()
    return ResultObjects.of(dataclasses.replace(one.result, **properties), one.sources)  # type: ignore[arg-type]


def test_another_answer_on_the_same_images_has_other_uids() -> None:
    """An archive that keeps the first of two copies must not keep "not assessed" for a study that was."""
    one = made()
    triage, model = one.result.triage, one.result.model
    assert triage is not None
    assert model is not None
    assert model.engine is not None
    fast = dataclasses.replace(model.engine, name="fast", precision="int8")
    late, noisy = Reason("TIME_LIMIT", "Too late."), Reason("NOISE", "Too noisy.")
    others = [
        changed(triage=None, status=Status.REFUSED, reasons=(late,)),
        changed(triage=None, status=Status.NOT_ASSESSED, reasons=(noisy,)),
        changed(triage=dataclasses.replace(triage, priority=Priority.ROUTINE)),
        changed(warnings=(noisy,)),
        changed(model=dataclasses.replace(model, engine=fast)),
        ResultObjects.of(one.result, one.sources, "other settings"),
    ]
    for kind in KINDS:
        identities = [objects.identity(kind) for objects in (one.objects, *others)]
        assert len({identity["sop_instance_uid"] for identity in identities}) == 7
        # Series have a date, which is that of the run: objects of several runs must not share one.
        assert len({identity["series_instance_uid"] for identity in identities}) == 7


def test_when_and_beside_what_a_study_was_read_changes_no_uid() -> None:
    again = changed(created="2030-01-01T00:00:00+00:00", files={"accepted": 99}, series=(), software={})
    for kind in KINDS:
        assert again.identity(kind)["sop_instance_uid"] == made().objects.identity(kind)["sop_instance_uid"]


def test_our_results_are_told_from_all_else() -> None:
    one = made()
    written = sorted(one.folder.glob("*.dcm"))
    assert {path.stem.split("-")[0] for path in written} == set(KINDS)
    assert all(is_result(pydicom.dcmread(path, stop_before_pixels=True)) for path in written)
    assert not any(is_result(image) for image in one.images.values())
    assert not is_result(Dataset())
