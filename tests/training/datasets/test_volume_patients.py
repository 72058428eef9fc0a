"""Whose volumes are, and lists of them."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest

from covid_ct_mask_net.errors import CovidCTMaskNetError, RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets import volume_patients
from covid_ct_mask_net.training.datasets.classified_volumes import classified_volumes
from covid_ct_mask_net.training.datasets.records import PATIENT, SCAN
from covid_ct_mask_net.training.datasets.volume_patients import listed_volumes, volume_name
from covid_ct_mask_net.training.sources import hold_out, labelled_slices

NAMES = ("P1_scan1", "P1_scan2", "P2_scan1", "P3_scan1")
HEAD = "volume,patient,split\n"
TABLE = HEAD + "P1_scan1.nii.gz,P1,train\nP1_scan2,P1,train\nP2_scan1,P2,val\nP3_scan1,P3,test\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four volumes of three patients, two slices each."""
    for name in NAMES:
        for folder, kind in (("images", np.int16), ("masks", np.uint8)):
            (tmp_path / folder).mkdir(exist_ok=True)
            nibabel.save(
                nibabel.Nifti1Image(np.zeros((4, 5, 2), kind), np.eye(4)),
                tmp_path / folder / f"{name}.nii.gz",
            )
    return tmp_path


def _patients(root: Path, listed: str | None = None, **options: object) -> dict[str, str]:
    return {one[SCAN]: one[PATIENT] for one in labelled_slices("volumes", root, listed, **options)}


def test_scans_of_one_patient_stay_on_one_side(root: Path) -> None:
    (root / "volumes.csv").write_text(TABLE)
    assert _patients(root) == dict(zip(NAMES, ("P1", "P1", "P2", "P3"), strict=True))
    for seed in range(10):
        sides = hold_out(labelled_slices("volumes", root), 0.4, seed)
        scans = [{one[SCAN] for one in side} for side in sides]
        assert {"P1_scan1", "P1_scan2"} <= scans[0] or {"P1_scan1", "P1_scan2"} <= scans[1]


def test_a_pattern_tells_whose_a_volume_is(root: Path) -> None:
    assert _patients(root, patient_pattern=r"(P\d)_scan") == _patients(root, patient_pattern=r"P\d")
    assert set(_patients(root, patient_pattern=r"P\d").values()) == {"P1", "P2", "P3"}
    with pytest.raises(RefusedInputError, match=r"P1_scan1 .*does not match.* \(4 of 4 do not\)"):
        _patients(root, patient_pattern=r"Q\d")
    with pytest.raises(UsageError, match="is no regular expression"):
        _patients(root, patient_pattern="(P")
    (root / "volumes.csv").write_text(TABLE)
    with pytest.raises(UsageError, match=r"volumes\.csv says whose the volumes are, too"):
        _patients(root, patient_pattern=r"P\d")


def test_with_neither_each_volume_is_a_patient_which_is_said_once(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger=volume_patients.__name__):
        for _ in range(2):
            assert _patients(root) == {name: name for name in NAMES}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "each is taken for a patient of its own" in caplog.text


def test_lists_and_splits_choose_volumes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "volumes.csv").write_text(TABLE)
    (root / "two.txt").write_text("P3_scan1\n\nP1_scan2.nii.gz\n")
    assert _patients(root, "two.txt") == {"P1_scan2": "P1", "P3_scan1": "P3"}
    assert _patients(root, split="train") == {"P1_scan1": "P1", "P1_scan2": "P1"}
    assert _patients(root, "volumes.csv", split="val") == {"P2_scan1": "P2"}
    assert len(_patients(root, "volumes.csv")) == 4
    assert not caplog.records
    train, val = (labelled_slices("volumes", root, "volumes.csv", split=name) for name in ("train", "val"))
    assert hold_out(train, 0.1, 0, val) == (train, val)
    with pytest.raises(RefusedInputError, match="Patient P1 is in training and validation"):
        hold_out(train, 0.1, 0, labelled_slices("volumes", root, "two.txt"))


def test_masks_with_a_suffix_are_listed_by_their_volume(root: Path) -> None:
    for path in (root / "masks").iterdir():
        path.rename(path.with_name(path.name.replace(".nii", "_mask.nii")))
    (root / "one.txt").write_text("P2_scan1\n")
    options = {"mask_suffix": "_mask", "patient_pattern": r"P\d"}
    assert _patients(root, "one.txt", **options) == {"P2_scan1": "P2"}
    (root / "masks" / "P2_scan1_mask.nii.gz").unlink()
    with pytest.raises(RefusedInputError, match=r"P2_scan1_mask is listed, but .*masks has no such volume"):
        _patients(root, "one.txt", **options)


def test_a_cohort_says_whose_its_volumes_are(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = "".join(f"{name},{split},{source}\n" for name, split, source in zip(
        NAMES, ("train", "train", "val", "test"), ("real-00", "real-00", "real-01", "phantom"), strict=True
    ))  # fmt: skip
    (root / "scans.csv").write_text("patient,split,source\n" + lines)
    assert _patients(root)["P1_scan1"] == "P1_scan1", "another's scans.csv is not read"
    assert caplog.records
    (root / "cohort.json").write_text("{}")
    # Lesions in the lungs of one real person: one patient.
    assert list(_patients(root).values()) == ["real-00", "real-00", "real-01", "P3_scan1"]
    assert list(_patients(root, split="val")) == ["P2_scan1"]


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("volume,split\na,train\n", RefusedInputError, "has no column patient; it has volume, split"),
        (HEAD + "P1_scan1,P1,train\n", RefusedInputError, r"P1_scan2 .* has no line in .* \(3 of 4"),
        (TABLE + "P1_scan1,P1,train\n", RefusedInputError, r"Line 6 .*P1_scan1 again \(first in line 2"),
        (TABLE.replace("2,P1,train", "2,P1,val"), RefusedInputError,
         r"Patient P1 .* has P1_scan1 in split train \(line 2\) and P1_scan2 in val \(line 3\)"),
        (TABLE.replace("P2,val", ",val"), RefusedInputError, "Line 4 of .* has no patient"),
        (TABLE + "P9,P9,train\n", RefusedInputError, "P9 is listed, but .* has no such volume"),
        (HEAD, UsageError, "No volume of .* is left in split train"),
        ("volume,patient\n" + "".join(f"{name},x\n" for name in NAMES), RefusedInputError, "without a split"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(
    root: Path, text: str, kind: type[CovidCTMaskNetError], said: str
) -> None:
    (root / "volumes.csv").write_text(text)
    with pytest.raises(kind, match=said):
        _patients(root, split=None if "no line" in said else "train")


def test_lists_that_do_not_fit_are_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="no table"):
        _patients(root, "none.csv")
    with pytest.raises(UsageError, match="There is no list"):
        _patients(root, "none.txt")
    with pytest.raises(UsageError, match=r"Split train was asked for, but there is no table volumes\.csv"):
        _patients(root, split="train")
    (root / "list.txt").write_text("P1_scan1\nP1_scan1.nii\n")
    with pytest.raises(RefusedInputError, match=r"Line 2 .* lists P1_scan1 again"):
        _patients(root, "list.txt")
    with pytest.raises(UsageError, match=r"list\.txt is no table"):
        listed_volumes(root / "list.txt", "train")
    (root / "list.txt").write_text("P7\n")
    with pytest.raises(RefusedInputError, match=r"P7 is listed, .*\(1 of 1 listed volumes"):
        _patients(root, "list.txt")


def test_names_may_hold_dots() -> None:
    assert [volume_name(one) for one in ("a.1.nii.gz", "b/a.1", " a.1.nii ")] == ["a.1"] * 3


def test_classified_volumes_of_one_patient(root: Path) -> None:
    (root / "slices.csv").write_text(
        "volume,patient,slice,class_id\nP1_scan1,P1,0,1\nP1_scan2.nii.gz,P1,0,1\nP2_scan1,P2,1,0\n"
    )
    records = classified_volumes(root / "images", root / "slices.csv")
    assert [(one[SCAN], one[PATIENT], one["file"]) for one in records] == [
        ("P1_scan1", "P1", "P1_scan1#0000"),
        ("P1_scan2", "P1", "P1_scan2#0000"),
        ("P2_scan1", "P2", "P2_scan1#0001"),
    ]
