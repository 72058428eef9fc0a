"""Results on disk, all of a study or nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from covid_ct_mask_net.errors import OutputError

_PARTIAL, _REPLACED = ".partial-", ".replaced-"
# File systems over a network lock no folders.
_NO_LOCKS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_result_set(output: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """Write the files of one study to ``output/name``; an earlier set of that name is replaced as a whole.

    The set is written to a hidden folder beside, flushed to disk and then renamed: readers never see a part
    of one. Where a set is replaced the old one is moved away first, and for that moment there is none.
    Writers of one output folder wait for each other. Folders are private to the user (0700), files too
    (0600).

    Parameters
    ----------
    output : Path
        Folder for all results; made if it is not there.
    name : str
        Pseudonym of the study.
    files : mapping of str to bytes
        Content by file name.

    Returns
    -------
    Path
        The folder of the set.

    Raises
    ------
    OutputError
        ``OUTPUT_UNWRITABLE``; nothing partial is left. ``OUTPUT_BUSY`` if another run writes the same set
        where the file system has no locks.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(output, error) from error
    try:
        with _alone(output):
            return _replace_set(output, name, files)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise OutputError(
                "OUTPUT_BUSY",
                f"Another run writes results of the same study to {str(output)!r}; wait for its end or name "
                "another folder.",
            ) from error
        raise _unwritable(output, error) from error


def _replace_set(output: Path, name: str, files: Mapping[str, bytes]) -> Path:
    partial, replaced, final = (output / f"{prefix}{name}" for prefix in (_PARTIAL, _REPLACED, ""))
    try:
        # A run that was killed between the two renames left only this.
        if replaced.exists() and not final.exists():
            replaced.rename(final)
        for leftover in (partial, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(mode=0o700)
        for file_name, content in sorted(files.items()):
            _write_durably(partial / file_name, content)
        # The names of the files too: after a power cut a set must not be there with less in it.
        flush_file(partial)
        if final.exists():
            final.rename(replaced)
        partial.rename(final)
        flush_file(output)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        # Also when the process was told to end.
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not final.exists():
            replaced.rename(final)
        raise
    return final


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one writer at a time, of all threads and processes, into a folder."""
    # Not there on every system on which the networks run.
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        # Closing does not let go of it while a process that was forked meanwhile has the descriptor too.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def is_unfinished(folder: Path) -> bool:
    """Tell whether a folder of a set is one that is being written or replaced, or that a killed run left."""
    return folder.name.startswith((_PARTIAL, _REPLACED))


def clean_leftovers(output: Path) -> None:
    """Put right what a run that was killed left in the output folder: sets are as before or complete.

    Call it only while no other run writes to the folder.
    """
    for replaced in sorted(output.glob(f"{_REPLACED}*")):
        final = output / replaced.name.removeprefix(_REPLACED)
        if final.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(final)
    for partial in sorted(output.glob(f"{_PARTIAL}*")):
        if partial.is_dir() and not partial.is_symlink():
            shutil.rmtree(partial)
        else:
            partial.unlink()


def write_json_atomically(path: Path, text: str) -> None:
    """Write a text file by renaming a complete one into place.

    Raises
    ------
    OutputError
        ``OUTPUT_UNWRITABLE``; an earlier file is still there.
    """
    partial = path.with_name(f"{_PARTIAL}{path.name}")
    try:
        partial.unlink(missing_ok=True)
        _write_durably(partial, text.encode("utf-8"))
        partial.replace(path)
        flush_file(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(path.parent, error) from error
        raise


def flush_file(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _unwritable(folder: Path, error: OSError) -> OutputError:
    advice = "make room or name another folder" if error.errno in _FULL else "name another folder"
    return OutputError(
        "OUTPUT_UNWRITABLE",
        f"The results cannot be written to {str(folder)!r} ({error.strerror}); {advice}.",
    )
