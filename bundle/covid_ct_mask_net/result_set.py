"""Results on disk, all of a study or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from covid_ct_mask_net.errors import OutputError

_PARTIAL, _REPLACED = ".partial-", ".replaced-"


def write_result_set(output: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """Write the files of one study to ``output/name``; an earlier set of that name is replaced as a whole.

    The set is written to a hidden folder beside, flushed to disk and then renamed, so that readers see the
    old set or the new one and never a part. Folders are private to the user (0700), files too (0600).

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
        ``OUTPUT_UNWRITABLE``; nothing partial is left.
    """
    partial, replaced, final = (output / f"{prefix}{name}" for prefix in (_PARTIAL, _REPLACED, ""))
    try:
        output.mkdir(parents=True, exist_ok=True)
        # A run that was killed between the two renames left only this.
        if replaced.exists() and not final.exists():
            replaced.rename(final)
        for leftover in (partial, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(mode=0o700)
        for file_name, content in sorted(files.items()):
            _write_durably(partial / file_name, content)
        # The names of the files too: after a power cut a set must not be there with less in it.
        _flush_folder(partial)
        if final.exists():
            final.rename(replaced)
        partial.rename(final)
        _flush_folder(output)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException as error:
        # Also when the process was told to end.
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not final.exists():
            replaced.rename(final)
        if isinstance(error, OSError):
            raise _unwritable(output, error) from error
        raise
    return final


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
        _flush_folder(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(path.parent, error) from error
        raise


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        "OUTPUT_UNWRITABLE",
        f"The results cannot be written to {str(folder)!r} ({error.strerror}); make room or name another "
        "folder.",
    )
