from __future__ import annotations

from pathlib import Path

import pytest

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.records import (
    check_slice_class,
    data_hash,
    existing_folder,
    make_record,
    paired_by_name,
    stem_of,
)


def test_pairs_are_made_by_name_and_not_by_sorted_order() -> None:
    # Sorted as strings, "10" stands before "9" among images, but not where masks carry zeros or suffixes.
    images = [Path("9.jpg"), Path("10.jpg")]
    masks = [Path("9_mask.nii.gz"), Path("10_mask.nii.gz")]
    pairs = paired_by_name(images, masks, mask_suffix="_mask")
    assert [(i.name, m.name) for i, m in pairs] == [("10.jpg", "10_mask.nii.gz"), ("9.jpg", "9_mask.nii.gz")]


@pytest.mark.parametrize(
    ("images", "masks", "code"),
    [
        (["1.jpg", "2.jpg"], ["1.png"], "MASK_MISSING"),
        (["1.jpg"], ["1.png", "2.png"], "IMAGE_MISSING"),
        (["1.jpg", "1.png"], ["1.png"], "NAME_TWICE"),
    ],
)
def test_what_has_no_partner_is_named(images: list[str], masks: list[str], code: str) -> None:
    with pytest.raises(RefusedInputError, match=r"[12]\.(jpg|png)") as caught:
        paired_by_name(map(Path, images), map(Path, masks))
    assert caught.value.code == code


def test_a_mask_without_the_suffix_of_its_folder_is_refused() -> None:
    with pytest.raises(RefusedInputError, match=r"1\.png") as caught:
        paired_by_name([Path("1.jpg")], [Path("1.png")], mask_suffix="_mask")
    assert caught.value.code == "MASK_NAME"


def test_nifti_suffixes_count_as_one() -> None:
    assert stem_of(Path("a/case.v2.nii.gz")) == "case.v2"
    assert stem_of(Path("case.png")) == "case"


def test_unknown_class_is_refused_with_the_classes() -> None:
    assert check_slice_class(2, "here") == 2
    with pytest.raises(RefusedInputError, match=r"here has class 3, but classes are 0 Control"):
        check_slice_class(3, "here")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        existing_folder(tmp_path / "nowhere", "slices")
    assert existing_folder(tmp_path, "slices") == tmp_path


def test_data_hash_ignores_order_and_place_but_not_classes(tmp_path: Path) -> None:
    def record(folder: str, name: str, slice_class: int) -> dict[str, object]:
        return make_record(Path(folder) / name, patient="1", scan="1", slice_index=0, slice_class=slice_class)

    here = [record("here", "a.png", 0), record("here", "b.png", 1)]
    there = [record("there", "b.png", 1), record("there", "a.png", 0)]
    assert data_hash(here) == data_hash(there)
    assert data_hash(here) != data_hash([record("here", "a.png", 0), record("here", "b.png", 2)])
