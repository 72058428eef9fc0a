from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import pydicom.data
import pytest
from pydicom.dataset import Dataset

from builders.dicom import make_ct_series, make_dose_report, make_localizer, phantom_hu
from builders.unreadable import deny_listing
from covid_ct_mask_net.app import headers, intake
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.readers import Readers
from covid_ct_mask_net.errors import ExitCode, NotAssessableError, UsageError

FEW = phantom_hu((3, 80, 64))


def facts(found: intake.Intake) -> object:
    return [
        (study.study_instance_uid, series.series_instance_uid, instance.sop_instance_uid)
        for study in found.studies
        for series in study.series
        for instance in series.instances
    ]


def test_patients_studies_and_series_are_kept_apart(tmp_path: Path) -> None:
    make_ct_series(tmp_path / "x", hu=FEW, patient_id="A")
    make_ct_series(tmp_path / "x", hu=FEW, patient_id="A", series_number=3, file_name="s3-{}.dcm")
    make_ct_series(tmp_path / "x", hu=FEW, patient_id="B", file_name="b-{}.dcm")
    found = intake.scan([tmp_path])
    assert sorted([len(s.instances) for s in study.series] for study in found.studies) == [[3], [3, 3]]
    assert found.accepted == 9
    assert found.refused == {}
    assert len({study.pseudonym for study in found.studies}) == 2


def test_one_series_uid_in_two_studies_gives_two_series(tmp_path: Path) -> None:
    for patient in "AB":
        make_ct_series(tmp_path / patient, hu=FEW, patient_id=patient, series_uid="1.2.3.4")
    found = intake.scan([tmp_path])
    for study in found.studies:
        assert {i.header.StudyInstanceUID for s in study.series for i in s.instances} == {
            study.study_instance_uid
        }
        assert [len(series.instances) for series in study.series] == [3]


def test_one_study_uid_with_two_patients_is_refused(tmp_path: Path) -> None:
    for patient in "AB":
        make_ct_series(tmp_path / patient, hu=FEW, patient_id=patient, study_uid="1.2.3")
    (study,) = intake.scan([tmp_path]).studies
    assert study.refusal is not None
    assert study.refusal.code == "MIXED_PATIENTS"
    assert study.series == ()


def test_the_order_of_files_and_inputs_has_no_influence(tmp_path: Path) -> None:
    files = make_ct_series(tmp_path / "a", hu=FEW)
    files += make_ct_series(tmp_path / "b", hu=FEW, patient_id="B", shuffle=True)
    whole = facts(intake.scan([tmp_path]))
    assert facts(intake.scan(list(reversed(files)))) == whole
    assert facts(intake.scan([tmp_path / "b", files[0], tmp_path / "a", tmp_path])) == whole


def test_exact_copies_are_left_out_and_different_ones_conflict(tmp_path: Path) -> None:
    files = make_ct_series(tmp_path, hu=FEW)
    shutil.copy(files[0], tmp_path / "copy.dcm")
    (series,) = intake.scan([tmp_path]).studies[0].series
    assert len(series.instances) == 3
    assert [note.code for note in series.notes] == ["DUPLICATE_INSTANCES"]
    assert series.conflict is None
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    (tmp_path / "copy.dcm").write_bytes(content)
    (series,) = intake.scan([tmp_path]).studies[0].series
    assert series.conflict is not None
    assert series.conflict.code == "CONFLICTING_INSTANCES"


def test_other_objects_are_counted_and_keep_only_what_identifies_them(tmp_path: Path) -> None:
    make_ct_series(tmp_path, hu=FEW)
    make_dose_report(tmp_path)
    found = intake.scan([tmp_path])
    assert found.modalities == {"CT": 3, "SR": 1}
    (report,) = (i for s in found.studies[0].series for i in s.instances if s.modality == "SR")
    assert report.header.PatientID == "PATIENT-1"
    assert "KVP" not in report.header
    assert all("KVP" in i.header for s in found.studies[0].series if s.modality == "CT" for i in s.instances)


def test_refused_files_are_counted_and_named_without_patient_or_path(tmp_path: Path) -> None:
    make_ct_series(tmp_path / "ZEBRA^NAME", hu=FEW, truncated_header=[1], patient_name="ZEBRA^NAME")
    (tmp_path / "notes.txt").write_text("ZEBRA^NAME " * 100)
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "study.zip").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    (tmp_path / "link").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = intake.scan([tmp_path])
    assert found.refused == {
        "ARCHIVE_NOT_ACCEPTED": 1, "MISSING_ATTRIBUTE": 1, "NOT_DICOM": 2, "NOT_REGULAR_FILE": 2,
    }  # fmt: skip
    assert found.accepted == 2
    for file in found.refused_files:
        assert "ZEBRA" not in file.sentence
        assert str(tmp_path) not in file.sentence


@pytest.mark.parametrize("isolated", [False, True])
def test_refused_files_are_counted_in_the_study_that_they_name(tmp_path: Path, isolated: bool) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        if k == 1:
            dataset.HighBit = 11
        if k == 2:
            dataset.SOPInstanceUID = "not-a-uid"

    for patient, also in (("A", edit), ("B", None)):
        make_ct_series(
            tmp_path / patient, hu=FEW, patient_id=patient, study_uid=f"1.2.{ord(patient)}", edit=also
        )
    make_ct_series(tmp_path / "C", hu=FEW, patient_id="C", study_uid="not-a-uid")
    (tmp_path / "A" / "notes.txt").write_text("no image")
    limits = Limits()
    with Readers(limits, count=1) as readers:
        found = intake.scan([tmp_path], limits, read_header=readers.header if isolated else headers.read)
    assert [(study.study_instance_uid, study.refused) for study in found.studies] == [
        ("1.2.65", {"BIT_DEPTH": 1, "UID_INVALID": 1}), ("1.2.66", {}),
    ]  # fmt: skip
    assert found.refused == {"BIT_DEPTH": 1, "NOT_DICOM": 1, "UID_INVALID": 4}


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_ct_series(tmp_path / "open", hu=FEW)
    make_ct_series(tmp_path / "ZEBRA^NAME" / "closed", hu=FEW, series_number=3)
    deny_listing(monkeypatch, tmp_path / "ZEBRA^NAME" / "closed")
    found = intake.scan([tmp_path, tmp_path / "ZEBRA^NAME"])
    assert (found.accepted, found.refused) == (3, {"UNREADABLE": 1})
    (refused,) = found.refused_files
    assert refused.path == tmp_path / "ZEBRA^NAME" / "closed"
    assert "ZEBRA" not in refused.sentence
    only = intake.scan([tmp_path / "ZEBRA^NAME"])
    with pytest.raises(NotAssessableError, match="1 UNREADABLE"):
        intake.require_studies(only)


def test_odd_file_names_are_read(tmp_path: Path) -> None:
    for name in ("-rf{}", "new\nline{}", "ü中文{}", "n" * 240 + "{}", ".hidden{}"):
        make_ct_series(tmp_path, hu=FEW[:1], file_name=name, series_number=len(name))
    assert intake.scan([tmp_path]).accepted == 5


def test_dicomdir_is_ignored() -> None:
    found = intake.scan([Path(pydicom.data.get_testdata_file("DICOMDIR"))])
    assert found.refused == {"DICOMDIR_IGNORED": 1}


def test_an_input_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not there") as caught:
        intake.scan([tmp_path / "gone"])
    assert caught.value.code == "INPUT_MISSING"


def test_nothing_to_assess_is_told_with_counts(tmp_path: Path) -> None:
    with pytest.raises(NotAssessableError) as empty:
        intake.require_studies(intake.scan([tmp_path]))
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(NotAssessableError) as texts:
        intake.require_studies(intake.scan([tmp_path]))
    assert empty.value.code == "NO_FILES"
    assert texts.value.code == "NO_DICOM"
    assert "1 ARCHIVE_NOT_ACCEPTED, 1 NOT_DICOM" in texts.value.sentence
    assert texts.value.exit_code is ExitCode.NOTHING_ASSESSABLE
    make_localizer(tmp_path)
    intake.require_studies(intake.scan([tmp_path]))


def test_a_study_beyond_the_limits_is_refused(tmp_path: Path) -> None:
    make_ct_series(tmp_path, hu=FEW)
    for limits in (Limits(study_files=2), Limits(study_bytes=1000)):
        refusal = intake.scan([tmp_path], limits).studies[0].refusal
        assert refusal is not None
        assert refusal.code == "STUDY_SIZE"


def test_modality_is_a_code_or_unknown(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.Modality = "John Doe 1960"

    make_ct_series(tmp_path, hu=FEW, edit=edit)
    assert intake.scan([tmp_path]).modalities == {"unknown": 3}


def test_progress_is_told_of_each_file(tmp_path: Path) -> None:
    make_ct_series(tmp_path, hu=FEW)
    told: list[int] = []
    intake.scan([tmp_path], progress=lambda: told.append(1))
    assert len(told) == 3


def test_pydicoms_own_odd_files_are_accepted_or_refused() -> None:
    folder = Path(pydicom.data.__file__).parent / "test_files"
    found = intake.scan([folder], Limits(minimum_side=8))
    assert found.accepted > 50
    assert all(file.sentence.endswith(".") and file.code.isupper() for file in found.refused_files)


def test_the_real_studies(shared_data: Path) -> None:
    found = intake.scan([shared_data / "chest-ct-dicom"])
    assert sorted(len(s.instances) for study in found.studies for s in study.series) == [30, 30, 64, 64, 100]
    assert len(found.studies) == 3
    assert found.refused == {}
    odd = intake.scan([shared_data / "odd-dicom"])
    assert odd.accepted == 12
