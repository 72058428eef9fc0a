from __future__ import annotations

from pathlib import Path

import pytest

from covid_ct_mask_net.errors import OutputError, RefusedInputError
from covid_ct_mask_net.training.files import FolderReplacement, csv_text, read_json, read_rows, write_text


def test_what_is_written_is_read_and_nothing_partial_stays(tmp_path: Path) -> None:
    path = write_text(tmp_path / "new" / "a.csv", csv_text([["a", "b"], ["1", "x, y"]]))
    assert read_rows(path) == [{"a": "1", "b": "x, y"}]
    assert [one.name for one in path.parent.iterdir()] == ["a.csv"]


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"b\.csv could not be written"):
        write_text(tmp_path / "file" / "b.csv", "")


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_new_files_take_the_place_of_a_folder_when_all_are_there(tmp_path: Path) -> None:
    new = FolderReplacement(tmp_path / "samples")
    for path in (new.path / "old", new.partial / "left behind"):
        write_text(path, "")
    new.begin()
    write_text(new.partial / "new", "")
    assert _names(tmp_path) == [".samples.partial/new", "samples/old"]
    new.replace()
    assert _names(tmp_path) == ["samples/new"]
    # Where none were written, none are left.
    new.begin()
    new.replace()
    assert not new.path.exists()
    new.replace()


def test_a_folder_that_cannot_be_replaced_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "samples").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=r"samples could not be replaced: .*symbolic link"):
        FolderReplacement(tmp_path / "samples").replace()


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_json_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RefusedInputError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
