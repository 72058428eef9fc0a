from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from builders.dicom import make_ct_series
from covid_ct_mask_net.app import intake
from covid_ct_mask_net.app.normalise import Sources, copy_patient_and_study, normalise
from covid_ct_mask_net.errors import OutputError


def sources(folder: Path, **properties: object) -> Sources:
    make_ct_series(folder, **properties)
    study = intake.scan([folder]).studies[0]
    headers = [instance.header for instance in study.series[0].instances]
    return normalise([*headers, None, headers[0]], study.study_instance_uid)


def test_each_instance_once_with_its_own_identifiers(tmp_path: Path) -> None:
    found = sources(tmp_path)
    assert len(found.instances) == len(found.by_uid) == 20
    assert len({str(one.ImagePositionPatient) for one in found.instances}) == 20
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("name", "charset", "written"),
    [
        ("Müller^Ångström", "ISO_IR 100", "ISO_IR 100"),
        ("Иванов^Иван", "ISO_IR 144", "ISO_IR 144"),
        ("王^小明", "ISO_IR 192", "ISO_IR 192"),
        ("王^小明", "GB18030", "ISO_IR 192"),
        ("Doe^Jane", "", "ISO_IR 192"),
    ],
)
def test_names_keep_their_letters(tmp_path: Path, name: str, charset: str, written: str) -> None:
    found = sources(tmp_path, patient_name=name, charset=charset)
    assert str(found.first.PatientName) == name
    assert found.character_set == written


def test_images_in_several_character_sets_give_results_in_unicode(tmp_path: Path) -> None:
    def other(index: int, dataset: Dataset) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 101" if index == 3 else "ISO_IR 100"

    assert sources(tmp_path, patient_name="Doe^Jane", edit=other).character_set == "ISO_IR 192"


def test_what_the_source_lacks_is_there_and_empty(tmp_path: Path) -> None:
    lacking = ("PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "ReferringPhysicianName")
    first = sources(tmp_path, without=lacking).first
    assert [first[keyword].value or "" for keyword in lacking] == [""] * 5


def test_what_the_standard_does_not_allow_is_left_empty_and_said(tmp_path: Path) -> None:
    def spoil(_: int, dataset: Dataset) -> None:
        dataset.PatientSex = "f"

    with pydicom.config.disable_value_validation():
        found = sources(tmp_path, edit=spoil)
    assert found.first.PatientSex == ""
    (warning,) = found.warnings
    assert warning.code == "ATTRIBUTE_INVALID"
    assert "PatientSex" in warning.sentence


def test_a_report_never_goes_to_another_study(tmp_path: Path) -> None:
    make_ct_series(tmp_path)
    header = intake.scan([tmp_path]).studies[0].series[0].instances[0].header
    with pytest.raises(OutputError) as caught:
        normalise([header], "1.2.3.4.5")
    assert caught.value.code == "OTHER_STUDY"
    with pytest.raises(OutputError) as caught:
        normalise([None], "1.2.3")
    assert caught.value.code == "NO_INSTANCE"


def test_results_take_over_the_patient_and_no_geometry(tmp_path: Path) -> None:
    target = Dataset()
    copy_patient_and_study(sources(tmp_path).first, target)
    assert target.PatientID == "PATIENT-1"
    assert "ImagePositionPatient" not in target
    assert "SOPInstanceUID" not in target
