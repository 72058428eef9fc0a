"""Data sets by layout, and validation parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from builders.lesion_data import make_cncb, make_covidx
from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.records import IMAGE, MASK, PATIENT
from covid_ct_mask_net.training.lung_crop import WHOLE_SHAPE
from covid_ct_mask_net.training.sources import (
    classified_slices,
    hold_out,
    labelled_slices,
    segmentation_transforms,
)
from covid_ct_mask_net.training.targets import TARGET


def test_lists_are_found_beside_the_images(tmp_path: Path) -> None:
    root = make_cncb(tmp_path / "data", patients=3, slices=2)
    (root / "two.txt").write_text("0_3.jpg\n1_3.jpg\n")
    assert len(labelled_slices("cncb", root)) == 6
    assert len(labelled_slices("cncb", root, "two.txt")) == 2
    assert len(labelled_slices("cncb", root, root / "two.txt")) == 2


def test_layouts_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'coco'.*cncb, volumes, lesion_slices"):
        labelled_slices("coco", tmp_path)
    with pytest.raises(UsageError, match=r"'imagenet'.*covidx, ictcf"):
        classified_slices("imagenet", tmp_path)
    with pytest.raises(UsageError, match="lesion_slices takes none"):
        labelled_slices("lesion_slices", tmp_path, "list.txt")


def test_slices_for_classification_all_have_a_class(tmp_path: Path) -> None:
    root = make_covidx(tmp_path / "data")
    records = classified_slices("covidx", root / "images", root / "list.txt")
    assert sorted({record["slice_class"] for record in records}) == [0, 1, 2]
    (root / "images" / "5_3.png").write_bytes((root / "images" / records[0]["file"]).read_bytes())
    with pytest.raises(RefusedInputError, match="Slice 3 of patient 5 has no class"):
        classified_slices("covidx", root / "images")


def test_no_patient_is_on_both_sides(tmp_path: Path) -> None:
    records = labelled_slices("cncb", make_cncb(tmp_path / "data", patients=10, slices=2))
    training, validation = hold_out(records, 0.3, seed=1)
    assert len({one[PATIENT] for one in validation}) == 3
    assert not {one[PATIENT] for one in training} & {one[PATIENT] for one in validation}
    assert len(training) + len(validation) == len(records)
    assert hold_out(records, 0.3, seed=1) == (training, validation)
    assert hold_out(records, 0.3, seed=2) != (training, validation)
    assert hold_out(records, 0, seed=1) == (records, [])
    assert len({one[PATIENT] for one in hold_out(records, 0.001, seed=1)[1]}) == 1


def test_given_validation_must_be_of_other_patients(tmp_path: Path) -> None:
    records = labelled_slices("cncb", make_cncb(tmp_path / "data", patients=3, slices=2))
    assert hold_out(records[:4], 0.5, 0, records[4:]) == (records[:4], records[4:])
    with pytest.raises(RefusedInputError, match="Patient 1 is in training and validation"):
        hold_out(records[:4], 0.5, 0, records[3:])
    with pytest.raises(UsageError, match="nothing to train on"):
        hold_out(records[:2], 0.5, 0)


def test_transforms_read_augment_and_make_targets(tmp_path: Path) -> None:
    record = labelled_slices("cncb", make_cncb(tmp_path / "data"))[1]
    plain = segmentation_transforms("both", 20)(record)
    assert plain[IMAGE].shape == (1, 64, 64)
    assert plain[TARGET]["labels"].tolist() == [1, 2]
    assert MASK not in plain
    changed = segmentation_transforms("merge", 20, augmentation=1.0, lung_crop=1.0)
    changed.set_random_state(0)
    result = changed(record)
    assert set(result[TARGET]["labels"].tolist()) <= {1}
    assert len(result[WHOLE_SHAPE]) == 2
    assert isinstance(result[IMAGE], torch.Tensor)
    assert float(result[IMAGE].min()) >= 0
    assert float(result[IMAGE].max()) <= 1
