from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from builders.dicom import make_ct_series, make_dose_report, make_enhanced_ct, make_localizer, phantom_hu
from covid_ct_mask_net.app import intake, pixels
from covid_ct_mask_net.app.headers import FileRefusedError
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.series_selection import SelectionRules, rank, select
from covid_ct_mask_net.errors import NotAssessableError, RefusedInputError

TWENTY = phantom_hu((20, 64, 64))


def study_in(folder: Path) -> intake.Study:
    (study,) = intake.scan([folder]).studies
    return study


def chosen_number(folder: Path, rules: SelectionRules | None = None) -> int:
    chosen = select(study_in(folder), rules).required()
    return int(chosen.instances[0].header.SeriesNumber)


def pair(folder: Path, first: dict[str, object], second: dict[str, object]) -> None:
    for number, properties in ((2, first), (3, second)):
        defaults: dict[str, object] = {"hu": TWENTY, "kernel": "B"}
        make_ct_series(folder / str(number), series_number=number, **{**defaults, **properties})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({}, {"kernel": "B70f"}),
        ({"thickness": 8.0}, {"thickness": 5.0}),
        ({"thickness": 5.0}, {"thickness": 1.25}),
        ({}, {"hu": phantom_hu((40, 64, 64))}),
        ({"description": "ABDOMEN", "edit": lambda _, d: setattr(d, "BodyPartExamined", "ABDOMEN")}, {}),
        ({"missing_slices": [5]}, {}),
        ({"spacing": (5.0, 2.0, 2.0), "image_type": ("DERIVED", "PRIMARY", "MPR"), "kernel": "LUNG"}, {}),
    ],
)
def test_the_better_series_is_chosen_whichever_comes_first(
    tmp_path: Path, worse: dict[str, object], better: dict[str, object]
) -> None:
    pair(tmp_path / "a", worse, better)
    assert chosen_number(tmp_path / "a") == 3
    pair(tmp_path / "b", better, worse)
    assert chosen_number(tmp_path / "b") == 2


def test_reports_name_each_series_with_reasons(tmp_path: Path) -> None:
    pair(tmp_path, {}, {"kernel": "LUNG"})
    make_localizer(tmp_path / "scout")
    make_dose_report(tmp_path / "dose")
    reports = rank(study_in(tmp_path))
    assert len(reports) == 4
    assert [report.reasons[0].code for report in reports if report.chosen] == ["CHOSEN"]
    codes = {report.reasons[0].code for report in reports}
    assert codes == {"CHOSEN", "LOWER_RANK", "NOT_ORIGINAL_AXIAL", "NOT_CT"}
    for report in reports:
        assert (report.score is None) == (report.reasons[0].code in {"NOT_ORIGINAL_AXIAL", "NOT_CT"})
        assert all(reason.sentence.endswith(".") for reason in report.reasons)


def test_free_text_never_gets_into_the_reasons(tmp_path: Path) -> None:
    make_ct_series(tmp_path, description="ZEBRA CHEST", patient_name="ZEBRA", kernel="ZEBRA")
    assert "ZEBRA" not in repr(rank(study_in(tmp_path)))


def test_equal_series_are_told_apart_by_uid_alone(tmp_path: Path) -> None:
    pair(tmp_path, {"series_uid": "1.2.9"}, {"series_uid": "1.2.8"})
    assert select(study_in(tmp_path)).required().series_instance_uid == "1.2.8"


def test_only_a_localizer_is_not_assessable(tmp_path: Path) -> None:
    make_localizer(tmp_path)
    selection = select(study_in(tmp_path))
    assert selection.chosen is None
    with pytest.raises(NotAssessableError) as caught:
        selection.required()
    assert caught.value.code == "NOT_ORIGINAL_AXIAL"


@pytest.mark.parametrize(
    ("defect", "code"),
    [
        ({"hu": TWENTY[:15]}, "TOO_FEW_SLICES"),
        ({"without": ["RescaleSlope"]}, "RESCALE"),
        ({"without": ["PixelSpacing"]}, "GEOMETRY_ATTRIBUTE"),
        ({"missing_slices": [4, 9, 14]}, "SPACING_IRREGULAR"),
        ({"missing_slices": [4, 5, 6]}, "SLICE_GAP"),
    ],
)
def test_a_defect_of_the_only_series_is_the_studys_reason(
    tmp_path: Path, defect: dict[str, object], code: str
) -> None:
    make_ct_series(tmp_path, **{"hu": TWENTY, **defect})  # type: ignore[arg-type]
    make_localizer(tmp_path / "scout")
    selection = select(study_in(tmp_path))
    assert selection.refusal is not None
    assert selection.refusal.code == code


def test_a_defective_series_gives_way_to_a_sound_one(tmp_path: Path) -> None:
    pair(tmp_path, {"kernel": "LUNG", "without": ["RescaleSlope"]}, {})
    assert chosen_number(tmp_path) == 3


def test_a_refused_study_has_no_series(tmp_path: Path) -> None:
    for patient in "AB":
        make_ct_series(tmp_path / patient, hu=TWENTY, patient_id=patient, study_uid="1.2.3")
    with pytest.raises(RefusedInputError) as caught:
        select(study_in(tmp_path)).required()
    assert caught.value.code == "MIXED_PATIENTS"


def test_limits_on_slices_are_settings(tmp_path: Path) -> None:
    make_ct_series(tmp_path, hu=TWENTY)
    study = study_in(tmp_path)
    assert select(study, limits=Limits(minimum_slices=20)).chosen is not None
    few, many = (
        select(study, limits=limits).refusal
        for limits in (Limits(minimum_slices=21), Limits(maximum_slices=19))
    )
    assert few is not None
    assert many is not None
    assert (few.code, many.code) == ("TOO_FEW_SLICES", "TOO_MANY_SLICES")


def test_rules_change_the_choice(tmp_path: Path) -> None:
    pair(tmp_path, {"kernel": "LUNG", "thickness": 8.0}, {"thickness": 5.0})
    assert chosen_number(tmp_path) == 2
    assert chosen_number(tmp_path, dataclasses.replace(SelectionRules(), sharp_kernel_points=0.0)) == 3


def test_an_enhanced_ct_is_eligible_by_its_frames(tmp_path: Path) -> None:
    make_enhanced_ct(tmp_path)
    assert select(study_in(tmp_path)).chosen is not None


def test_the_real_studies(shared_data: Path) -> None:
    kernels = {
        str(select(study).required().instances[0].header.ConvolutionKernel)
        for study in intake.scan([shared_data / "chest-ct-dicom"]).studies
    }
    assert kernels == {"LUNG", "L", "B70f"}


# Whether the pixels of each file are read, and why it is no series to assess.
ODD_FILES = {
    "1.2.840.10008.1.2.1.99.dcm": ((358, 512), "NOT_ORIGINAL_AXIAL"),
    "1.2.840.10008.1.2.4.70.dcm": ((400, 512), "NOT_ORIGINAL_AXIAL"),
    "2020-09-12-ELSCINT1-PMSCT_RLE1.dcm": ("PIXEL_LENGTH", "NOT_ORIGINAL_AXIAL"),
    "CT01.dcm": ((512, 512), "NOT_ORIGINAL_AXIAL"),
    "SignedCT.dcm": ((512, 512), "TOO_FEW_SLICES"),
    "TEST_1_study_1234.dcm": ((512, 512), "NOT_ORIGINAL_AXIAL"),
    "TEST_1_study_2345.dcm": ((512, 512), "NOT_ORIGINAL_AXIAL"),
    "ct_image.dcm": ((128, 128), "TOO_FEW_SLICES"),
    "localizer.dcm": ((512, 512), "NOT_ORIGINAL_AXIAL"),
    "seg_image_ct_binary.dcm": ("PIXEL_LENGTH", "NOT_CT"),
    "sr_document.dcm": ("PIXEL_LENGTH", "NOT_CT"),
    "sr_document_with_multiple_groups.dcm": ("PIXEL_LENGTH", "NOT_CT"),
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_each_odd_file_is_read_or_refused_with_a_sentence(shared_data: Path, name: str) -> None:
    (study,) = intake.scan([shared_data / "odd-dicom" / name]).studies
    pixels_expected, reason = ODD_FILES[name]
    (instance,) = study.series[0].instances
    if isinstance(pixels_expected, str):
        with pytest.raises(FileRefusedError, match=r"\.$") as caught:
            pixels.decode(instance)
        assert caught.value.code == pixels_expected
    else:
        assert pixels.decode(instance).shape == pixels_expected
    selection = select(study)
    assert selection.refusal is not None
    assert selection.refusal.code == reason
    assert selection.refusal.sentence.endswith(".")
    assert {path.name for path in (shared_data / "odd-dicom").iterdir()} == set(ODD_FILES)
