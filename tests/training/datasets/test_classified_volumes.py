from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest

from covid_ct_mask_net.errors import CovidCTMaskNetError, RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.classified_volumes import classified_volumes
from covid_ct_mask_net.training.datasets.read import ReadSliced, read_mask
from covid_ct_mask_net.training.sources import classified_slices, hold_out
from covid_ct_mask_net.training.synthesis.cohort import CohortSettings, Layout, write_cohort

HEAD = "patient,slice,class_id\n"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohorts") / "cohort"
    write_cohort(
        folder, CohortSettings(9, 3, size=64, step_mm=20.0, shares=(0.4, 0.3, 0.3), layouts=(Layout.NIFTI,))
    )
    return folder


def test_slices_of_a_cohort_have_the_class_that_their_masks_show(cohort: Path) -> None:
    records = classified_slices("volumes", cohort)
    assert {record["slice_class"] for record in records} >= {0, 2}
    for record in records:
        mask = read_mask(cohort / "masks" / Path(record["image"]).name, {0: 0, 1: 1, 2: 2}, record["slice"])
        assert (record["slice_class"] > 0) == (np.count_nonzero(mask) >= 30), record["file"]
    read = ReadSliced()(records[0])
    assert read["image"].shape == (1, 64, 64)
    assert len({record["file"] for record in records}) == len(records)


def test_scans_have_the_class_that_the_cohort_states(cohort: Path) -> None:
    records = classified_slices("volumes", cohort)
    with (cohort / "scans.csv").open(newline="") as file:
        stated = {line["patient"]: int(line["class_id"]) for line in csv.DictReader(file)}
    assert {record["scan"]: record["scan_class"] for record in records} == stated
    mixed = [one for one in records if one["scan_class"] and not one["slice_class"]]
    assert mixed, "slices of a diseased scan need not show it"


def test_a_slice_of_another_disease_than_its_scan_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.eye(4))
    (tmp_path / "images").mkdir()
    nibabel.save(image, tmp_path / "images" / "a.nii.gz")
    (tmp_path / "volumes.csv").write_text("volume,patient,class_id\na.nii.gz,p,1\n")
    (tmp_path / "slices.csv").write_text(HEAD + "a,0,0\na,1,1\n")
    assert [one["scan_class"] for one in classified_slices("volumes", tmp_path)] == [1, 1]
    (tmp_path / "slices.csv").write_text(HEAD + "a,0,0\na,1,2\n")
    with pytest.raises(RefusedInputError, match=r"Line 3 .* class 2, but the table of scans states class 1"):
        classified_slices("volumes", tmp_path)
    (tmp_path / "volumes.csv").write_text("volume,patient\na.nii.gz,p\n")
    assert "scan_class" not in classified_slices("volumes", tmp_path)[0]


def test_a_split_is_taken_and_patients_stay_on_one_side(cohort: Path) -> None:
    everything = classified_slices("volumes", cohort)
    parts = [classified_slices("volumes", cohort, split=name) for name in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(everything)
    train, val = hold_out(parts[0], 0.0, 1, parts[1])
    assert not {one["patient"] for one in train} & {one["patient"] for one in val}


def test_slices_without_lung_are_left_out(cohort: Path) -> None:
    everything = classified_slices("volumes", cohort, least_lung_pixels=0)
    lungs = classified_slices("volumes", cohort)
    assert len(lungs) < len(everything) == len((cohort / "slices.csv").read_text().splitlines()) - 1


def test_a_table_of_one_s_own(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.eye(4))
    (tmp_path / "images").mkdir()
    nibabel.save(image, tmp_path / "images" / "a.nii.gz")
    table = tmp_path / "mine.csv"
    table.write_text("class_id,slice,patient,reader\n2,1,a,x\n0,2,a,y\n")
    records = classified_slices("volumes", tmp_path, "mine.csv")
    assert [(r["slice"], r["slice_class"], r["patient"]) for r in records] == [(1, 2, "a"), (0 + 2, 0, "a")]


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (None, UsageError, "There is no table"),
        ("patient,slice\na,0\n", RefusedInputError, "has no column class_id; it has patient, slice"),
        (HEAD, UsageError, "No slice of"),
        (HEAD + "b,0,1\n", RefusedInputError, "Line 2 of .* names the volume b, which is not in"),
        (HEAD + "a,0,1\na,3,1\n", RefusedInputError, "Line 3 of .* names slice 3, but .* 3 slices"),
        (HEAD + "a,0,7\n", RefusedInputError, "Line 2 of .* has class 7"),
        (HEAD + "a,one,1\n", RefusedInputError, "has slice 'one'; a whole number was expected"),
        (HEAD + "a,0\n", RefusedInputError, "has class_id None; a whole number"),
        (HEAD + "a,0,1\na,0,2\n", RefusedInputError, r"Line 3 .* again \(first in line 2\)"),
        (HEAD + "\xff\x00", RefusedInputError, "no CSV|no column|Line"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused_by_line(
    tmp_path: Path, text: str | None, kind: type[CovidCTMaskNetError], said: str
) -> None:
    (tmp_path / "images").mkdir()
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.eye(4)), tmp_path / "images" / "a.nii")
    if text is not None:
        (tmp_path / "slices.csv").write_text(text, encoding="latin-1")
    with pytest.raises(kind, match=said):
        classified_volumes(tmp_path / "images", tmp_path / "slices.csv")


def test_a_split_that_the_table_does_not_tell_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "slices.csv").write_text(HEAD + "a,0,1\n")
    with pytest.raises(RefusedInputError, match="no column split"):
        classified_volumes(tmp_path / "images", tmp_path / "slices.csv", split="train")
