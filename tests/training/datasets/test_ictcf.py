from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from builders.lesion_data import chest_slice
from covid_ct_mask_net.errors import CovidCTMaskNetError, UsageError
from covid_ct_mask_net.training.datasets.ictcf import BinaryClass, ictcf_slices, listed_images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("nCT/Patient 4/7.jpg", "nCT/x12.jpg", "pCT/Patient 5/CT/8.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chest_slice()).save(path)
    return tmp_path


def test_folders_give_classes_and_patients(root: Path) -> None:
    records = {record["file"]: record for record in ictcf_slices(root)}
    assert records["pCT/Patient 5/CT/8.jpg"]["slice_class"] == 1
    assert records["pCT/Patient 5/CT/8.jpg"]["patient"] == "patient-5"
    assert records["nCT/Patient 4/7.jpg"]["slice_class"] == 0
    # Nobody says whose this one is: it stands for itself.
    assert records["nCT/x12.jpg"]["patient"] == "nCT/x12.jpg"
    assert records["nCT/x12.jpg"]["slice"] == 12


def test_a_list_chooses_and_allows_blanks_in_paths(root: Path) -> None:
    (root / "list.txt").write_text("pCT/Patient 5/CT/8.jpg 1\n")
    assert [record["slice_class"] for record in ictcf_slices(root, root / "list.txt")] == [1]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("pCT/Patient 5/CT/8.jpg 0", "CLASS_CONTRADICTED"),
        ("pCT/Patient 5/CT/8.jpg 2", "SLICE_CLASS"),
        ("pCT/no.jpg 1", "LIST_MISMATCH"),
        ("pCT/no.jpg", "LIST_FORMAT"),
        ("", "LIST_EMPTY"),
    ],
)
def test_wrong_lists_are_refused_by_name(root: Path, line: str, code: str) -> None:
    (root / "list.txt").write_text(line + "\n")
    with pytest.raises(CovidCTMaskNetError, match=r"list\.txt") as caught:
        ictcf_slices(root, root / "list.txt")
    assert caught.value.code == code


def test_a_folder_or_a_list_gives_what_splits_need(root: Path) -> None:
    images = {one.file: one for one in listed_images(root)}
    assert sorted(images) == ["nCT/Patient 4/7.jpg", "nCT/x12.jpg", "pCT/Patient 5/CT/8.jpg"]
    known, unknown = images["pCT/Patient 5/CT/8.jpg"], images["nCT/x12.jpg"]
    assert (known.slice_class, known.patient, known.names_patient) == (
        BinaryClass.COVID_19,
        "patient-5",
        True,
    )
    assert (unknown.slice_class.label, unknown.patient) == ("Negative", "nCT/x12.jpg")
    assert not unknown.names_patient
    (root / "list.txt").write_text("".join(f"{one.line}\n" for one in images.values()))
    assert listed_images(root / "list.txt") == list(images.values())
    assert len(ictcf_slices(root, root / "list.txt")) == 3


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pCT/1.jpg 0\n", "CLASS_CONTRADICTED"),
        ("nCT/1.jpg 0\nnCT/1.jpg 0\n", "LISTED_TWICE"),
        ("nCT/1.jpg 2\n", "SLICE_CLASS"),
        ("0_1_1_0001.png\n", "LIST_FORMAT"),
        ("\n", "LIST_EMPTY"),
    ],
)
def test_lists_without_their_folder_are_checked_too(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(CovidCTMaskNetError, match=r"list\.txt") as caught:
        listed_images(tmp_path / "list.txt")
    assert caught.value.code == code


def test_a_missing_class_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nCT"):
        ictcf_slices(tmp_path)
    (tmp_path / "nCT").mkdir()
    with pytest.raises(CovidCTMaskNetError, match="no images"):
        ictcf_slices(tmp_path)
    with pytest.raises(UsageError, match=r"list\.txt"):
        ictcf_slices(tmp_path, folders={}, listed=tmp_path / "list.txt")
