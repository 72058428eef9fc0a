from __future__ import annotations

import highdicom.content
import highdicom.pr.content
import highdicom.sr.content
import pytest
from highdicom import SOPClass, _standard_utils
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, CTImageStorage, EnhancedCTImageStorage

from covid_ct_mask_net.app.iod_lookups import load_tables, remembered_lookups

SOP_CLASSES = (CTImageStorage, EnhancedCTImageStorage, Comprehensive3DSRStorage)


def _image(sop_class: str) -> Dataset:
    image = Dataset()
    image.SOPClassUID = sop_class
    return image


def _answers() -> list[tuple[bool, bool, bool]]:
    return [
        (
            highdicom.content.does_iod_have_pixel_data(sop_class),
            highdicom.pr.content.is_multiframe_image(_image(sop_class)),
            highdicom.sr.content.is_attribute_in_iod("PixelData", sop_class, ["IconImageSequence"]),
        )
        for sop_class in SOP_CLASSES
    ]


def test_tables_are_read_ahead_and_once() -> None:
    tables = (
        _standard_utils.get_sop_class_iod_map,
        _standard_utils.get_iod_module_map,
        _standard_utils.get_module_attribute_map,
    )
    for table in tables:
        table.cache_clear()
    load_tables()
    read = [table.cache_info().misses for table in tables]
    assert read == [1, 1, 1]
    _answers()
    assert [table.cache_info().misses for table in tables] == read


def test_answers_are_those_of_the_tables() -> None:
    expected = _answers()
    assert expected == [(True, False, True), (True, True, True), (False, False, False)]
    with remembered_lookups():
        assert _answers() == expected
        assert _answers() == expected


def test_tables_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with remembered_lookups():
        _answers()
        monkeypatch.setattr(_standard_utils, "get_iod_module_map", None)
        _answers()
    with pytest.raises(TypeError):
        _answers()


def test_an_unknown_class_is_an_error_each_time() -> None:
    with remembered_lookups():
        for _ in range(2):
            with pytest.raises(KeyError, match=r"1\.2\.3"):
                highdicom.content.does_iod_have_pixel_data("1.2.3")


def test_nothing_is_changed_afterwards() -> None:
    before = _standard_utils.is_attribute_in_iod
    with pytest.raises(ValueError, match="stop"), remembered_lookups():
        raise ValueError("stop")
    assert _standard_utils.is_attribute_in_iod is before
    assert highdicom.sr.content.is_attribute_in_iod is before


def test_patient_and_study_come_from_instances_of_any_class() -> None:
    source = Dataset()
    source.SOPClassUID, source.SOPInstanceUID = "1.3.12.2.1107.5.9.1", "1.2.3"
    source.PatientID, source.StudyInstanceUID, source.Modality = "1", "1.2.4", "OT"
    result = object.__new__(SOPClass)
    Dataset.__init__(result)
    with remembered_lookups():
        result.copy_patient_and_study_information(source)
    assert (result.PatientID, result.StudyInstanceUID) == ("1", "1.2.4")
    assert "Modality" not in result
    assert source.SOPClassUID == "1.3.12.2.1107.5.9.1"
