from __future__ import annotations

from pathlib import Path

import pytest

from covid_ct_mask_net.errors import CovidCTMaskNetError, RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.lists import listed_files, read_list


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "list.txt"
    path.write_text(text)
    return path


def test_both_kinds_of_line_are_read_in_order(tmp_path: Path) -> None:
    listed = read_list(_write(tmp_path, "NCP_96_1328_0032.png 2 9 94 512 405\n\n0_1_2_0003.png\n"))
    assert [one.file for one in listed] == ["NCP_96_1328_0032.png", "0_1_2_0003.png"]
    assert listed[0].lung_box == (9, 94, 512, 405)
    assert listed[1].lung_box is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("NCP_1_2_3.png two\n", "LIST_FORMAT"),
        ("NCP_1_2_3.png 2 9 94\n", "LIST_FORMAT"),
        ("NCP_1_2_3.png 5 1 2 3 4\n", "SLICE_CLASS"),
        ("NCP_1_2_3.png 0 1 2 3 4\n", "CLASS_CONTRADICTED"),
        ("NCP_1_2_3.png\n2_1_2_3.png\n", "LISTED_TWICE"),
        ("hello\n", "NAME_FORMAT"),
        ("\n", "LIST_EMPTY"),
    ],
)
def test_wrong_lines_are_refused_by_file(tmp_path: Path, text: str, code: str) -> None:
    with pytest.raises(CovidCTMaskNetError, match=r"list\.txt") as caught:
        read_list(_write(tmp_path, text))
    assert caught.value.code == code


def test_missing_list_and_binary_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.txt"):
        read_list(tmp_path / "nothing.txt")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00\x9f")
    with pytest.raises(CovidCTMaskNetError, match="no text file"):
        read_list(binary)


def test_files_are_found_under_either_name_or_with_another_suffix(tmp_path: Path) -> None:
    listed = read_list(_write(tmp_path, "2_96_1328_0032.png\n7_13.jpg\n"))
    for name in ("NCP_96_1328_0032.png", "7_13.png"):
        (tmp_path / name).touch()
    assert [path.name for path in listed_files(listed, tmp_path)] == ["NCP_96_1328_0032.png", "7_13.png"]
    (tmp_path / "7_13.png").unlink()
    with pytest.raises(RefusedInputError, match=r"7_13\.jpg is listed, but not in .*\(1 of 2 listed slices"):
        listed_files(listed, tmp_path)


def test_lines_are_written_as_they_were_read(tmp_path: Path) -> None:
    text = "NCP_96_1328_0032.png 2 9 94 512 405\n0_1_2_0003.png\n7_13.jpg\n"
    assert "".join(f"{one.line}\n" for one in read_list(_write(tmp_path, text))) == text
