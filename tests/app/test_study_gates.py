from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from builders.dicom import make_enhanced_ct
from covid_ct_mask_net.app import intake
from covid_ct_mask_net.app.study_gates import StudyGates, age_years
from covid_ct_mask_net.errors import NotAssessableError


def patient(**values: str) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("header", "age"),
    [
        (patient(PatientAge="060Y"), 60.0),
        (patient(PatientAge="006M"), 0.5),
        (patient(PatientBirthDate="19600102", StudyDate="20200103"), 60.0),
        (patient(PatientBirthDate="19000101", StudyDate="19000101"), None),
        (patient(), None),
    ],
)
def test_age(header: Dataset, age: float | None) -> None:
    assert age_years(header) == (None if age is None else pytest.approx(age, abs=0.01))


@pytest.mark.parametrize(
    ("items", "warnings"), [((), []), (("IOHEXOL",), ["CONTRAST_AGENT"]), (("",), ["CONTRAST_AGENT"])]
)
def test_contrast_of_an_enhanced_ct_is_in_a_sequence(
    tmp_path: Path, items: tuple[str, ...], warnings: list[str]
) -> None:
    def edit(dataset: Dataset) -> None:
        dataset.PatientAge = "060Y"
        dataset.ContrastBolusAgentSequence = [patient(CodeMeaning=item) for item in items]

    (study,) = intake.scan([make_enhanced_ct(tmp_path, edit=edit).parent]).studies
    header = study.series[0].instances[0].header
    assert [reason.code for reason in StudyGates().check([header])] == warnings


def test_children_and_unknown_ages_are_settings() -> None:
    child = [patient(PatientAge="009Y")]
    with pytest.raises(NotAssessableError) as caught:
        StudyGates().check(child)
    assert caught.value.code == "AGE_OUT_OF_RANGE"
    assert StudyGates(minimum_age_years=0).check(child) == ()
    assert [r.code for r in StudyGates().check([patient()])] == ["AGE_UNKNOWN"]
    with pytest.raises(NotAssessableError):
        StudyGates(unknown_age=False).check([patient()])
