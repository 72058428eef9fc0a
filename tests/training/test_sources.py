"""Data sets by layout, and validation parts."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from builders.lesion_data import make_cncb, make_covidx
from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.records import IMAGE, MASK, PATIENT, Record
from covid_ct_mask_net.training.lung_crop import WHOLE_SHAPE
from covid_ct_mask_net.training.runs import RunInfo, write_info
from covid_ct_mask_net.training.sources import (
    check_window,
    classification_transforms,
    classified_slices,
    hold_out,
    labelled_slices,
    segmentation_transforms,
    window_settings,
)
from covid_ct_mask_net.training.targets import TARGET


def test_lists_are_found_beside_the_images(tmp_path: Path) -> None:
    root = make_cncb(tmp_path / "data", patients=3, slices=2)
    (root / "two.txt").write_text("0_3.jpg\n1_3.jpg\n")
    assert len(labelled_slices("cncb", root)) == 6
    assert len(labelled_slices("cncb", root, "two.txt")) == 2
    assert len(labelled_slices("cncb", root, root / "two.txt")) == 2


def test_slices_without_lesions_are_left_out_by_an_option(tmp_path: Path) -> None:
    root = make_cncb(tmp_path / "data", patients=3, slices=2)
    options = {"lesions_only": True, "mask_type": "ggo", "minimum_area": 20}
    assert len(labelled_slices("cncb", root)) == 6
    assert len(labelled_slices("cncb", root, **options)) == 4
    (root / "masks" / "0_3.png").rename(root / "masks" / "0.png")
    with pytest.raises(RefusedInputError, match="has no mask"):
        labelled_slices("lesion_slices", root, **options)


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


def _hounsfield(root: Path) -> list[Record]:
    for folder, kind in (("images", np.int16), ("masks", np.uint8)):
        (root / folder).mkdir(parents=True)
        voxels = np.zeros((4, 5, 1), kind)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), root / folder / "a.nii.gz")
    return labelled_slices("volumes", root)


def test_volumes_are_read_under_the_window_that_is_set(tmp_path: Path) -> None:
    (record,) = _hounsfield(tmp_path / "data")
    for made in (segmentation_transforms, lambda *_, **more: classification_transforms(**more)):
        # 0 HU lies at 0.9 of -600/1500 and in the middle of 0/400.
        assert float(made("both", 20)(record)[IMAGE].max()) == pytest.approx(0.9)
        narrow = made("both", 20, window_level=0, window_width=400)
        assert float(narrow(record)[IMAGE].max()) == pytest.approx(0.5)
    with pytest.raises(UsageError, match=r"lung_crop finds lungs by grey values of the window -600/1500 HU"):
        classification_transforms(lung_crop=0.5, window_level=0, window_width=400)


def test_windows_are_recorded_for_volumes_alone(tmp_path: Path) -> None:
    volumes = _hounsfield(tmp_path / "volumes")
    images = labelled_slices("cncb", make_cncb(tmp_path / "cncb"))
    assert window_settings(volumes, -600, 1500) == {"window_level": -600.0, "window_width": 1500.0}
    assert window_settings(images, -600, 1500) == {}


def test_an_evaluation_under_another_window_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    volumes = _hounsfield(tmp_path / "volumes")
    images = labelled_slices("cncb", make_cncb(tmp_path / "cncb"))
    caplog.clear()
    check_window(tmp_path / "new", volumes, 40, 400)
    trained = {"training": window_settings(volumes, -600, 1500)}
    write_info(tmp_path / "run", RunInfo("segmentation", "full", settings=trained))
    check_window(tmp_path / "run", volumes, -600, 1500)
    check_window(tmp_path / "run", images, 40, 400)
    assert not caplog.records
    check_window(tmp_path / "run", volumes, 40, 1500)
    assert [record.getMessage() for record in caplog.records] == [
        f"window_level is 40 here, but {tmp_path / 'run'} was trained with -600; set it to evaluate what was "
        "trained."
    ]
