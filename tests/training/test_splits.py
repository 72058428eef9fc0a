from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.datasets.ictcf import BinaryClass, ListedImage
from covid_ct_mask_net.training.datasets.lists import ListedSlice, read_list
from covid_ct_mask_net.training.datasets.names import parse_slice_name
from covid_ct_mask_net.training.splits import (
    hashes_csv,
    left_out,
    pixel_hashes,
    read_hashes,
    require_patients,
    same_pixels,
    sample,
    summarize,
    verify,
)

CONTROL, PNEUMONIA, COVID = SliceClass


@pytest.fixture(scope="module")
def lists(shared_data: Path) -> dict[str, list[ListedSlice]]:
    folder = shared_data / "covidx-ct-splits"
    files = {
        "train": "train_COVIDx_CT-1", "val": "val_COVIDx_CT-1", "test": "test_COVIDx_CT-1",
        "sample": "author_train_split_classification",
        "segmentation": "author_train_split_segmentation",
        "segmentation_test": "author_test_split_segmentation",
    }  # fmt: skip
    return {name: read_list(folder / f"{file}.txt") for name, file in files.items()}


def _listed(*names: str) -> list[ListedSlice]:
    return [ListedSlice(name, parse_slice_name(name)) for name in names]


def test_covidx_ct_splits_share_no_patient(lists: dict[str, list[ListedSlice]]) -> None:
    """Paper D2: sizes, classes and patients of the published lists."""
    summaries = verify({name: lists[name] for name in ("train", "val", "test")})
    assert [summaries[name].slices for name in ("train", "val", "test")] == [61_782, 21_036, 21_191]
    test, val = summaries["test"], summaries["val"]
    assert test.slices_by_class == {CONTROL: 9_450, PNEUMONIA: 7_395, COVID: 4_346}
    assert [round(100 * n / test.slices, 1) for n in test.slices_by_class.values()] == [44.6, 34.9, 20.5]
    assert [round(100 * n / val.slices, 1) for n in val.slices_by_class.values()] == [43.3, 35.2, 21.5]
    # D7: the volume-level view of the test list.
    assert (test.scans, test.patients) == (483, 293)
    assert test.scans_by_class == {CONTROL: 104, PNEUMONIA: 195, COVID: 184}


def test_the_papers_training_sample(lists: dict[str, list[ListedSlice]]) -> None:
    """Paper D3: 1,000 a class of 608 patients, all in train, none in val or test."""
    summary = summarize(lists["sample"])
    assert summary.slices_by_class == dict.fromkeys(SliceClass, 1_000)
    assert summary.patients == 608
    assert summary.patients_by_class == {CONTROL: 140, PNEUMONIA: 252, COVID: 216}
    verify({name: lists[name] for name in ("sample", "val", "test")})


def test_the_left_out_split_in_both_readings(lists: dict[str, list[ListedSlice]]) -> None:
    """Paper D4: Table 7 is not an independent test."""
    rest = left_out(lists["train"], lists["sample"])
    assert len(rest.slices) == 58_782
    assert round(100 * rest.same_patient, 1) == 95.0
    assert round(100 * rest.same_scan, 1) == 89.7
    independent = summarize(rest.patient_disjoint)
    assert (independent.slices, independent.patients) == (2_962, 256)
    assert independent.slices_by_class == {CONTROL: 181, PNEUMONIA: 1_687, COVID: 1_094}


def test_segmentation_lists(lists: dict[str, list[ListedSlice]]) -> None:
    """Paper D1: 650 slices of 130 patients and 100 of 20, none in both."""
    summaries = verify({name: lists[name] for name in ("segmentation", "segmentation_test")})
    assert [(s.slices, s.patients) for s in summaries.values()] == [(650, 130), (100, 20)]


def test_a_sample_like_the_papers(lists: dict[str, list[ListedSlice]]) -> None:
    drawn = sample(lists["train"], 1_000, seed=1)
    assert Counter(one.name.slice_class for one in drawn) == dict.fromkeys(SliceClass, 1_000)
    # Every patient of train is in it, for no class has more than 1,000 patients.
    assert summarize(drawn).patients == summarize(lists["train"]).patients == 864
    assert len(left_out(lists["train"], drawn).patient_disjoint) == 0


def test_a_sample_of_fewer_patients_leaves_others(lists: dict[str, list[ListedSlice]]) -> None:
    drawn = sample(lists["train"], 1_000, seed=1, patients=140)
    summary = summarize(drawn)
    assert summary.slices_by_class == dict.fromkeys(SliceClass, 1_000)
    assert summary.patients_by_class == dict.fromkeys(SliceClass, 140)
    rest = summarize(left_out(lists["train"], drawn).patient_disjoint)
    assert rest.patients_by_class == {CONTROL: 4, PNEUMONIA: 280, COVID: 160}
    assert drawn == sample(list(reversed(lists["train"])), 1_000, seed=1, patients=140)
    others = {one.patient for one in sample(lists["train"], 1_000, seed=2, patients=140)}
    assert others != {one.patient for one in drawn}


def test_too_few_patients_for_a_sample_are_refused() -> None:
    many = _listed(*(f"0_{p}_1_{s}.png" for p in range(4) for s in range(3)))
    assert len({one.patient for one in sample(many, 6, seed=0, patients=2)}) == 2
    assert len({one.patient for one in sample(many, 6, seed=0, patients=9)}) == 4
    with pytest.raises(UsageError, match="Control has 6 of the 2 patients drawn, so 1 to 6"):
        sample(many, 7, seed=0, patients=2)
    with pytest.raises(UsageError, match="0 patients a class"):
        sample(many, 1, seed=0, patients=0)


def test_segmentation_lists_number_patients_of_their_own() -> None:
    summaries = verify({"masks": _listed("7_1.jpg"), "train": _listed("0_7_1_3.png")})
    assert [one.patients for one in summaries.values()] == [1, 1]


def test_a_patient_of_two_classes_is_one() -> None:
    images = [
        ListedImage("nCT/Patient 4/1.jpg", BinaryClass.NEGATIVE),
        ListedImage("pCT/Patient 4/2.jpg", BinaryClass.COVID_19),
        ListedImage("pCT/Patient 5/3.jpg", BinaryClass.COVID_19),
    ]
    summary = summarize(images)
    assert summary.patients == 2
    assert summary.patients_by_class == {BinaryClass.NEGATIVE: 1, BinaryClass.COVID_19: 2}
    assert left_out(images, images[:1]).patient_disjoint == (images[2],)
    with pytest.raises(RefusedInputError, match="1 patients are in both a and b"):
        verify({"a": images[:1], "b": images[1:]})


def test_images_that_name_no_patient_cannot_be_kept_apart() -> None:
    images = [ListedImage(f"nCT/nCT{n}.jpg", BinaryClass.NEGATIVE) for n in range(3)]
    assert len(sample(images, 2, seed=0)) == 2
    with pytest.raises(UsageError, match=r"3 of 3 images name no patient, for example nCT/nCT0\.jpg"):
        sample(images, 2, seed=0, patients=2)
    with pytest.raises(UsageError, match="Patient N"):
        require_patients(images)


def test_patients_in_two_splits_are_refused_even_under_another_class() -> None:
    with pytest.raises(RefusedInputError, match=r"1 patients are in both a and b.*0_7_1_3\.png and 2_7"):
        verify({"a": _listed("0_7_1_3.png", "0_8_1_3.png"), "b": _listed("2_7_9_1.png")})


def test_samples_depend_on_the_seed_and_not_on_the_order() -> None:
    many = _listed(*(f"{c}_{p}_1_{s:04d}.png" for c in range(3) for p in range(4) for s in range(3 + 5 * p)))
    drawn = sample(many, 8, seed=2)
    assert drawn == sample(list(reversed(many)), 8, seed=2)
    assert drawn != sample(many, 8, seed=3)
    # Patients take turns: none gives a third slice before all that can have given two.
    assert set(Counter((one.slice_class, one.patient) for one in drawn).values()) == {2}


@pytest.mark.parametrize("per_class", [0, 3])
def test_impossible_samples_are_refused(per_class: int) -> None:
    with pytest.raises(UsageError, match="1 to 2 are possible"):
        sample(_listed("0_1_1_1.png", "0_1_1_2.png"), per_class, seed=0)
    with pytest.raises(UsageError, match=r"1_2\.jpg has no class"):
        sample(_listed("1_2.jpg"), 1, seed=0)


def test_a_sample_that_is_not_from_the_list_is_refused() -> None:
    with pytest.raises(RefusedInputError, match=r"0_9_1_1\.png is in the sample"):
        left_out(_listed("0_1_1_1.png"), _listed("0_9_1_1.png"))


def test_duplicate_pixels_are_found_across_formats(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "b.bmp")
    Image.fromarray(pixels.T).save(tmp_path / "c.png")
    Image.fromarray(pixels.reshape(4, 16)).save(tmp_path / "d.png")
    hashes = pixel_hashes(
        {
            "train": {"a": tmp_path / "a.png", "c": tmp_path / "c.png", "d": tmp_path / "d.png"},
            "test": {"b": tmp_path / "b.bmp"},
        }
    )
    assert same_pixels(hashes) == [[("test", "b"), ("train", "a")]]
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(RefusedInputError, match=r"x\.png"):
        pixel_hashes({"train": {"x": tmp_path / "x.png"}})


def test_deep_images_are_told_apart_and_colour_is_grey(tmp_path: Path) -> None:
    deep = np.array([[300, 5000], [60000, 7]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    Image.fromarray(deep).save(tmp_path / "same.tif")
    Image.frombytes("I;16B", (2, 2), deep.astype(">u2").tobytes()).save(tmp_path / "big-endian.tif")
    # Pillow's conversion to 8 bits cuts off at 255, which makes the two alike.
    Image.fromarray(np.where(deep > 255, deep - 1, deep)).save(tmp_path / "b.png")
    grey = np.array([[255, 255], [255, 7]], dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "colour.png")
    names = ("a.png", "same.tif", "big-endian.tif", "b.png", "grey.png", "colour.png")
    hashes = pixel_hashes({"train": {name: tmp_path / name for name in names}})
    assert [{name for _, name in group} for group in same_pixels(hashes)] == [
        {"a.png", "same.tif", "big-endian.tif"},
        {"grey.png", "colour.png"},
    ]


def test_hashes_are_read_back(tmp_path: Path) -> None:
    hashes = {"train": {"a, b.png": "0" * 64}, "test": {"c.png": "f" * 64}}
    path = tmp_path / "hashes.csv"
    path.write_text(hashes_csv(hashes))
    assert read_hashes(path) == hashes


@pytest.mark.parametrize("text", ["", "file,sha256\n", "split,file,sha256\ntrain,a.png,abc\n"])
def test_other_files_are_no_hashes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hashes.csv"
    path.write_text(text)
    with pytest.raises(RefusedInputError, match=r"hashes\.csv") as caught:
        read_hashes(path)
    assert caught.value.code == "HASHES_FORMAT"
    with pytest.raises(UsageError, match=r"no\.csv"):
        read_hashes(tmp_path / "no.csv")
