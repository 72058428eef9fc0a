"""Results on disk: all of a study or nothing, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from covid_ct_mask_net.errors import ExitCode, OutputError
from covid_ct_mask_net.result_set import is_unfinished, write_json_atomically, write_result_set

OLD = {"result.json": b"old", "sr.dcm": b"old report", "old only": b"x"}
NEW = {"result.json": b"new", "sr.dcm": b"new report"}


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _fail_at(monkeypatch: pytest.MonkeyPatch, function: str, call: int) -> None:
    """Let the disk be full at the ``call``-th call of a function of os, or of Path.rename."""
    owner = Path if function == "rename" else os
    real, calls = getattr(owner, function), iter(range(1, 100))

    def failing(*arguments: object, **keywords: object) -> object:
        if next(calls) == call:
            raise OSError(28, "No space left on device")
        return real(*arguments, **keywords)

    monkeypatch.setattr(owner, function, failing)


def test_a_set_is_written_whole_and_private(tmp_path: Path) -> None:
    folder = write_result_set(tmp_path / "made" / "too", "0123456789ab", NEW)
    assert folder == tmp_path / "made" / "too" / "0123456789ab"
    assert _content(folder) == NEW
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert [path.name for path in folder.parent.iterdir()] == ["0123456789ab"]


def test_files_and_their_names_are_flushed_ahead_of_the_rename_and_the_set_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut leaves is a whole set or none."""
    events = []
    flush, rename = os.fsync, Path.rename

    def flushed(descriptor: int) -> None:
        events.append(f"flush {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        flush(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        events.append(f"rename {path.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", renamed)
    write_result_set(tmp_path / "out", "study", NEW)
    files = [f"flush {name}" for name in NEW]
    assert events == [*files, "flush .partial-study", "rename .partial-study", "flush out"]


def test_a_second_run_replaces_the_set_as_a_whole(tmp_path: Path) -> None:
    write_result_set(tmp_path, "study", OLD)
    write_result_set(tmp_path, "study", NEW)
    assert _content(tmp_path / "study") == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


@pytest.mark.parametrize("before", [{}, OLD], ids=["first run", "second run"])
@pytest.mark.parametrize(
    ("function", "call"),
    [("fsync", 1), ("fsync", 2), ("fsync", 3), ("open", 1), ("open", 2), ("rename", 1), ("rename", 2)],
)
def test_a_full_disk_leaves_the_old_set_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, bytes], function: str, call: int
) -> None:
    if before:
        write_result_set(tmp_path, "study", before)
    elif (function, call) == ("rename", 2):
        function, call = "fsync", 2  # the first run renames once
    with monkeypatch.context() as patch:
        _fail_at(patch, function, call)
        with pytest.raises(OutputError, match="No space left") as caught:
            write_result_set(tmp_path, "study", NEW)
    assert caught.value.code == "OUTPUT_UNWRITABLE"
    assert caught.value.exit_code is ExitCode.OUTPUT_FAILED
    assert [path.name for path in tmp_path.iterdir()] == (["study"] if before else [])
    if before:
        assert _content(tmp_path / "study") == before
    write_result_set(tmp_path, "study", NEW)
    assert _content(tmp_path / "study") == NEW


def test_what_a_killed_run_left_is_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / ".partial-study").mkdir()
    (tmp_path / ".partial-study" / "result.json").write_bytes(b"half")
    (tmp_path / ".replaced-study").mkdir()
    write_result_set(tmp_path, "study", NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_the_old_set_of_a_run_killed_while_renaming_survives_a_failing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_result_set(tmp_path, ".replaced-study", OLD)
    _fail_at(monkeypatch, "fsync", 1)
    with pytest.raises(OutputError):
        write_result_set(tmp_path, "study", NEW)
    assert _content(tmp_path / "study") == OLD


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"\(File exists\); name another folder"):
        write_result_set(tmp_path / "file", "study", NEW)


def test_writers_of_one_set_wait_for_each_other(tmp_path: Path) -> None:
    """Each writes for itself, in processes or threads: locks are those of open files."""
    sets = [{"result.json": bytes([n]) * 1000, "sr.dcm": bytes([n]) * 1000} for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda files: write_result_set(tmp_path, "study", files), sets * 5):
            pass
    assert _content(tmp_path / "study") in sets
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_a_lock_ends_with_the_writing_and_a_file_system_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_result_set(tmp_path, "study", OLD)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)

    def without(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", without)
    write_result_set(tmp_path, "study", NEW)
    assert _content(tmp_path / "study") == NEW


def test_a_set_that_another_run_writes_without_locks_is_no_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def late(path: Path, target: Path) -> Path:
        if path.name == ".partial-study":
            (tmp_path / "study").mkdir()
            (tmp_path / "study" / "result.json").write_bytes(b"of the other run")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(OutputError, match="Another run writes") as caught:
        write_result_set(tmp_path, "study", NEW)
    assert caught.value.code == "OUTPUT_BUSY"
    assert _content(tmp_path / "study") == {"result.json": b"of the other run"}
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_folders_that_are_being_written_are_known() -> None:
    assert is_unfinished(Path("/out/.partial-0123456789ab"))
    assert is_unfinished(Path("/out/.replaced-0123456789ab"))
    assert not is_unfinished(Path("/out/0123456789ab"))


def test_a_json_file_is_replaced_by_a_complete_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "worklist.json"
    write_json_atomically(path, '{"studies": []}\n')
    write_json_atomically(path, '{"name": "Ω"}\n')
    assert path.read_text(encoding="utf-8") == '{"name": "Ω"}\n'
    for function, call in (("fsync", 1), ("open", 1)):
        with monkeypatch.context() as patch:
            _fail_at(patch, function, call)
            with pytest.raises(OutputError):
                write_json_atomically(path, "half")
        assert path.read_text(encoding="utf-8") == '{"name": "Ω"}\n'
        assert [entry.name for entry in tmp_path.iterdir()] == ["worklist.json"]
