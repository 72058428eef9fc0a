from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from covid_ct_mask_net.errors import OutputError, UsageError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.datasets.cncb import cncb_segmentation
from covid_ct_mask_net.training.datasets.covidx import covidx_slices
from covid_ct_mask_net.training.datasets.lists import read_list
from covid_ct_mask_net.training.datasets.read import ReadSliced
from covid_ct_mask_net.training.datasets.volumes import lesion_volumes
from covid_ct_mask_net.training.splits import verify
from covid_ct_mask_net.training.synthesis.cohort import CohortSettings, Layout, draw_patient, write_cohort
from covid_ct_mask_net.training.synthesis.phantom import Chest
from covid_ct_mask_net.training.targets import detection_target

SETTINGS = CohortSettings(
    6, seed=3, size=96, step_mm=20.0, shares=(0.5, 0.0, 0.5), layouts=tuple(Layout)
)  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "out"
    write_cohort(folder, SETTINGS)
    return folder


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes_and_several_processes_tell_in_order(cohort: Path, tmp_path: Path) -> None:
    told: list[str] = []
    write_cohort(tmp_path / "again", SETTINGS, progress=told.append, workers=2)
    assert _hashes(tmp_path / "again") == _hashes(cohort)
    assert [line.split(":")[0] for line in told] == [f"patient {number:04d}" for number in range(6)]


def test_without_workers_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="workers is 0, but must be at least 1"):
        write_cohort(tmp_path / "out", SETTINGS, workers=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cohort_that_cannot_be_written_leaves_nothing(tmp_path: Path, workers: int) -> None:
    folder, settings = tmp_path / "out", replace(SETTINGS, patients=2, layouts=(Layout.NIFTI,))

    def in_the_way(line: str) -> None:
        # A full disk, at the second patient.
        raise OSError(28, "No space left on device", line)

    with pytest.raises(OutputError, match="could not be written: No space left on device"):
        write_cohort(folder, settings, progress=in_the_way, workers=workers)
    assert not folder.exists()


def test_scans_are_listed_with_class_and_split(cohort: Path) -> None:
    with (cohort / "scans.csv").open(newline="") as file:
        scans = list(csv.DictReader(file))
    assert [scan["class_id"] for scan in scans] == ["0", "1", "2"] * 2
    assert [scan["split"] for scan in scans] == ["train"] * 3 + ["test"] * 3
    for scan in scans:
        assert (float(scan["ggo_ml"]) + float(scan["consolidation_ml"]) > 0) == (scan["class_id"] != "0")
    assert "Synthetic" in json.loads((cohort / "cohort.json").read_text())["notice"]


def test_volumes_are_read_by_the_data_sets(cohort: Path) -> None:
    records = lesion_volumes(cohort / "images", cohort / "masks", lesions_only=True)
    assert {record["patient"] for record in records} == {"0001", "0002", "0004", "0005"}
    read = ReadSliced()(records[len(records) // 2])
    assert read["image"].shape[-2:] == read["mask"].shape[-2:] == (96, 96)
    image = nibabel.load(cohort / "images" / "0002.nii.gz")
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")


def test_slices_are_read_as_covidx_and_as_cncb(cohort: Path) -> None:
    slices = covidx_slices(cohort / "slices" / "images", cohort / "slices" / "train.txt")
    assert {record["slice_class"] for record in slices} == {0, 1, 2}
    records = cncb_segmentation(cohort / "segmentation" / "images", cohort / "segmentation" / "masks")
    labels = [ReadSliced()(record)["mask"] for record in records]
    assert all(set(np.unique(mask)) <= {0, 1, 2} for mask in labels)
    boxes = [detection_target(mask, MaskType.BOTH, 5)["boxes"] for mask in labels]
    assert sum(len(box) for box in boxes) > 0


def test_no_patient_is_in_two_splits(cohort: Path) -> None:
    listed = {split: read_list(cohort / "slices" / f"{split}.txt") for split in ("train", "test")}
    assert verify(listed)["train"].patients >= 3
    patients = [{one.name.patient for one in ones} for ones in listed.values()]
    assert patients == [{"0", "1", "2"}, {"3", "4", "5"}]


def test_people_are_not_split(chest: Chest) -> None:
    settings = CohortSettings(6, seed=0, shares=(0.5, 0.0, 0.5))
    people = [("a", [chest]), ("b", [chest])]
    drawn = [draw_patient(settings, number, people) for number in range(6)]
    by_person = {(patient.source, split) for patient, split in drawn}
    assert by_person == {("a", "train"), ("b", "test")}


def test_full_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(OutputError) as refused:
        write_cohort(tmp_path, SETTINGS)
    assert refused.value.code == "OUTPUT_EXISTS"
    assert (tmp_path / "mine.txt").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"patients": 0},
        {"size": 10},
        {"shares": (0.5, 0.2, 0.1)},
        {"mass_share": 1.5},
        {"emphysema_share": -0.1},
    ],
)
def test_senseless_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        CohortSettings(**{"patients": 3, "seed": 1, **changes})  # type: ignore[arg-type]
