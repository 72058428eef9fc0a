"""The folder of results. Requirements: REQ-OUTPUT-1, REQ-OUTPUT-2, REQ-OUTPUT-3."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from covid_ct_mask_net.app.output_folder import LOCK, OutputFolder
from covid_ct_mask_net.errors import OutputError

_HOLD = """
import sys, pathlib
from covid_ct_mask_net.app.output_folder import OutputFolder
folder = OutputFolder(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def code_of(path: Path) -> str:
    with pytest.raises(OutputError) as caught:
        OutputFolder(path)
    return caught.value.code


def test_a_new_folder_is_private_and_the_lock_goes_with_the_run(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "a" / "out") as folder:
        assert folder.path.stat().st_mode & 0o077 == 0
        assert (folder.path / LOCK).stat().st_mode & 0o077 == 0
    assert list(folder.path.iterdir()) == []


def test_another_process_waits_outside(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert code_of(tmp_path / "out") == "OUTPUT_BUSY"
        # A run that dies lets go, whatever it leaves behind.
        holder.kill()
        holder.wait()
    assert (tmp_path / "out" / LOCK).exists()
    with OutputFolder(tmp_path / "out"):
        assert code_of(tmp_path / "out") == "OUTPUT_BUSY"


@pytest.mark.parametrize("name", ["thesis.docx", "study", "0123456789ab.txt"])
def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    assert code_of(tmp_path) == "OUTPUT_NOT_EMPTY"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_other_things_are_counted_and_not_named(tmp_path: Path) -> None:
    for name in ("ZEBRA^NAME", "zebra-2"):
        (tmp_path / "out" / name).mkdir(parents=True)
    with pytest.raises(OutputError, match="holds 2 entries that are no results;") as caught:
        OutputFolder(tmp_path / "out")
    assert "zebra" not in caught.value.sentence.lower()


@pytest.mark.parametrize("name", ["run.json", "worklist.html", "audit.jsonl", ".DS_Store", "lost+found"])
def test_a_folder_of_an_earlier_run_is_used_again(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / "0123456789ab").mkdir()
    OutputFolder(tmp_path).close()


def test_what_a_killed_run_left_is_put_right(tmp_path: Path) -> None:
    for name in (".partial-000000000001", ".replaced-000000000002", ".replaced-000000000003", "000000000003"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(name)
    (tmp_path / ".partial-run.json").write_text("{")
    OutputFolder(tmp_path).close()
    found = {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {
        # Killed between the two renames: the earlier set is back.
        "000000000002/result.json": ".replaced-000000000002",
        # Killed behind them: the new one stays.
        "000000000003/result.json": "000000000003",
    }


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).symlink_to(tmp_path / "target")
    assert code_of(tmp_path / "out") == "OUTPUT_UNWRITABLE"
    assert (tmp_path / "target").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    assert code_of(tmp_path / "out") == "OUTPUT_UNWRITABLE"
    assert code_of(tmp_path / "out" / "below") == "OUTPUT_UNWRITABLE"
