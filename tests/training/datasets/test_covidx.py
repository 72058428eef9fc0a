from __future__ import annotations

from pathlib import Path

import pytest

from builders.lesion_data import make_covidx
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.training.datasets.covidx import covidx_slices


def test_listed_slices_become_data_dictionaries(tmp_path: Path) -> None:
    root = make_covidx(tmp_path)
    records = covidx_slices(root / "images", root / "list.txt")
    assert [record["slice_class"] for record in records] == [0, 0, 1, 1, 2, 2]
    assert records[-1]["patient"] == "200"
    assert records[-1]["scan"] == "1200"
    assert records[-1]["file"] == "NCP_200_1200_0001.png"
    assert all(Path(record["image"]).is_file() for record in records)


def test_a_list_with_the_originals_names_finds_covidx_files(tmp_path: Path) -> None:
    root = make_covidx(tmp_path)
    (root / "own.txt").write_text("2_200_1200_0001.png\n0_0_1000_0000.png\n")
    records = covidx_slices(root / "images", root / "own.txt")
    assert [Path(record["image"]).name for record in records] == [
        "NCP_200_1200_0001.png",
        "Normal_0_1000_0000.png",
    ]


def test_without_a_list_names_give_the_classes(tmp_path: Path) -> None:
    root = make_covidx(tmp_path)
    records = covidx_slices(root / "images")
    assert sorted(record["slice_class"] for record in records) == [0, 0, 1, 1, 2, 2]


def test_a_list_that_does_not_match_names_the_slice(tmp_path: Path) -> None:
    root = make_covidx(tmp_path)
    (root / "images" / "CP_100_1100_0000.png").unlink()
    with pytest.raises(RefusedInputError, match=r"CP_100_1100_0000\.png is listed.*1 of 6") as caught:
        covidx_slices(root / "images", root / "list.txt")
    assert caught.value.code == "LIST_MISMATCH"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedInputError, match="no images"):
        covidx_slices(tmp_path)
