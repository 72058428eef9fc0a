from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from builders.dicom import (
    CORONAL,
    concatenated,
    make_ct_series,
    make_dose_report,
    make_enhanced_ct,
    make_localizer,
    phantom_hu,
    write,
)
from covid_ct_mask_net.app import intake
from covid_ct_mask_net.app.geometry import GeometryRules
from covid_ct_mask_net.app.stacks import Stack, stacks_of

UID = "1.2.3.4.5"
TEN = phantom_hu((10, 80, 64))


def stacks(folder: Path, *, derived: bool = False) -> tuple[Stack, ...]:
    (series,) = intake.scan([folder]).studies[0].series
    return stacks_of(series, GeometryRules(), derived=derived)


def sizes(found: tuple[Stack, ...]) -> list[int]:
    return sorted(len(stack.series.instances) for stack in found)


def only_refusal(found: tuple[Stack, ...]) -> str:
    (stack,) = found
    assert stack.refusal is not None
    return stack.refusal.code


def test_a_plain_series_is_one_stack(tmp_path: Path) -> None:
    make_ct_series(tmp_path, hu=TEN)
    (stack,) = stacks(tmp_path)
    assert (len(stack.series.instances), stack.notes, stack.refusal) == (10, (), None)


def test_a_localizer_inside_the_series_is_set_aside(tmp_path: Path) -> None:
    make_ct_series(tmp_path, hu=TEN, series_uid=UID)
    make_localizer(tmp_path, series_uid=UID, acquisition_number=9)
    (stack,) = stacks(tmp_path)
    assert len(stack.series.instances) == 10
    assert [note.code for note in stack.notes] == ["IMAGES_SET_ASIDE"]


@pytest.mark.parametrize(
    "image_type",
    [
        ("ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"),
        ("DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MPR"),
        ("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"),
        ("DERIVED", "SECONDARY", "MIP"),
        ("ORIGINAL", "SECONDARY", "SCREEN SAVE"),
    ],
)
def test_what_is_not_an_original_slice_is_not_selected(tmp_path: Path, image_type: tuple[str, ...]) -> None:
    make_ct_series(tmp_path, hu=TEN, image_type=image_type)
    assert only_refusal(stacks(tmp_path)) == "NOT_ORIGINAL_AXIAL"


def test_derived_slices_are_eligible_by_rule(tmp_path: Path) -> None:
    make_ct_series(tmp_path, hu=TEN, image_type=("DERIVED", "SECONDARY", "AXIAL"))
    assert only_refusal(stacks(tmp_path)) == "NOT_ORIGINAL_AXIAL"
    assert sizes(stacks(tmp_path, derived=True)) == [10]


def test_coronal_series_are_not_axial(tmp_path: Path) -> None:
    make_ct_series(tmp_path, hu=TEN, orientation=CORONAL)
    assert only_refusal(stacks(tmp_path)) == "NOT_AXIAL"


def test_other_objects_are_not_ct(tmp_path: Path) -> None:
    make_dose_report(tmp_path)
    assert only_refusal(stacks(tmp_path)) == "NOT_CT"


def test_two_acquisitions_under_one_series_uid_are_told_apart(tmp_path: Path) -> None:
    make_ct_series(tmp_path / "1", hu=TEN, series_uid=UID, acquisition_number=1)
    make_ct_series(tmp_path / "2", hu=TEN, series_uid=UID, acquisition_number=2, spacing=(5.0, 1.0, 1.0))
    found = stacks(tmp_path)
    assert sizes(found) == [10, 10]
    assert {stack.notes[0].code for stack in found} == {"SERIES_SPLIT"}
    for stack in found:
        assert len({i.header.AcquisitionNumber for i in stack.series.instances}) == 1


@pytest.mark.parametrize("offset", [1.0, 2.5])
@pytest.mark.parametrize("told_by", ["AcquisitionNumber", "ConvolutionKernel"])
def test_acquisitions_that_lie_among_each_other_are_told_apart(
    tmp_path: Path, told_by: str, offset: float
) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        if told_by != "AcquisitionNumber":
            dataset.AcquisitionNumber = 1

    for number, kernel in ((1, "SOFT"), (2, "LUNG")):
        make_ct_series(
            tmp_path / str(number), hu=TEN, series_uid=UID, acquisition_number=number, edit=edit,
            kernel=kernel if told_by == "ConvolutionKernel" else "LUNG",
            origin=(-80.0, -80.0, (number - 1) * offset),
        )  # fmt: skip
    found = stacks(tmp_path)
    assert sizes(found) == [10, 10]
    assert [[note.code for note in stack.notes] for stack in found] == [["SERIES_SPLIT"]] * 2
    for stack in found:
        assert len({float(i.header.ImagePositionPatient[2]) % 5 for i in stack.series.instances}) == 1


def test_a_number_written_in_two_ways_does_not_take_a_series_apart(tmp_path: Path) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        dataset.SliceThickness = DSfloat(("5", "5.00")[k % 2], auto_format=False)

    make_ct_series(tmp_path, hu=TEN, edit=edit)
    assert sizes(stacks(tmp_path)) == [10]


def test_rotations_with_their_own_numbers_stay_together(tmp_path: Path) -> None:
    for number in range(5):
        make_ct_series(
            tmp_path / str(number), hu=TEN[:2], series_uid=UID, acquisition_number=number,
            origin=(-80.0, -80.0, 10.0 * number),
        )  # fmt: skip
    assert sizes(stacks(tmp_path)) == [10]


def test_phases_that_nothing_tells_apart_are_ambiguous(tmp_path: Path) -> None:
    for number in (1, 2):
        make_ct_series(
            tmp_path / str(number), hu=TEN, series_uid=UID, acquisition_number=number,
            edit=lambda _, dataset: setattr(dataset, "AcquisitionNumber", 1),
        )  # fmt: skip
    assert only_refusal(stacks(tmp_path)) == "AMBIGUOUS_SERIES"


def test_a_few_duplicates_are_left_to_the_geometry(tmp_path: Path) -> None:
    make_ct_series(tmp_path, hu=TEN, duplicated_slices=[3])
    assert sizes(stacks(tmp_path)) == [11]


def test_conflicting_instances_refuse_the_series(tmp_path: Path) -> None:
    files = make_ct_series(tmp_path, hu=TEN)
    (tmp_path / "other.dcm").write_bytes(files[0].read_bytes() + b"\0\0")
    assert only_refusal(stacks(tmp_path)) == "CONFLICTING_INSTANCES"


def test_an_enhanced_image_is_one_stack(tmp_path: Path) -> None:
    make_enhanced_ct(tmp_path)
    assert sizes(stacks(tmp_path)) == [1]


def test_the_parts_of_a_concatenation_are_one_stack_in_their_order(tmp_path: Path) -> None:
    concatenated(make_enhanced_ct(tmp_path))
    make_enhanced_ct(tmp_path / "other", edit=lambda dataset: setattr(dataset, "SOPInstanceUID", "1.2.3.99"))
    whole, other = stacks(tmp_path)
    assert [part.sop_instance_uid for part in whole.series.instances] == ["1.2.3.8", "1.2.3.7", "1.2.3.6"]
    assert ([note.code for note in whole.notes], whole.refusal) == (["CONCATENATION"], None)
    assert len(other.series.instances) == 1


def test_a_concatenation_need_not_tell_its_number_of_parts(tmp_path: Path) -> None:
    concatenated(make_enhanced_ct(tmp_path), total=False)
    (stack,) = stacks(tmp_path)
    assert (len(stack.series.instances), stack.refusal) == (3, None)
    assert "not told" in stack.notes[0].sentence


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_concatenation_with_a_part_missing_is_refused(tmp_path: Path, missing: int) -> None:
    concatenated(make_enhanced_ct(tmp_path))[missing].unlink()
    (stack,) = stacks(tmp_path)
    assert stack.refusal is not None
    assert stack.refusal.code == "CONCATENATION_INCOMPLETE"
    assert "2 of 3" in stack.refusal.sentence


def test_frames_that_are_missing_between_parts_are_noticed(tmp_path: Path) -> None:
    files = concatenated(make_enhanced_ct(tmp_path), total=False)
    dataset = dcmread(files[2])
    dataset.ConcatenationFrameOffsetNumber = 15
    write(dataset, files[2])
    (stack,) = stacks(tmp_path)
    assert stack.refusal is not None
    assert "begins at 15" in stack.refusal.sentence


def test_parts_without_numbers_are_refused(tmp_path: Path) -> None:
    for file in concatenated(make_enhanced_ct(tmp_path), total=False, offsets=False):
        dataset = dcmread(file)
        del dataset.InConcatenationNumber
        write(dataset, file)
    assert only_refusal(stacks(tmp_path)) == "CONCATENATION_INCOMPLETE"
