"""The folder of results: ours alone, used by one run at a time, without leftovers of a killed run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Self

from covid_ct_mask_net.errors import OutputError
from covid_ct_mask_net.result_set import clean_leftovers

LOCK, SEND_LOCK = ".lock", ".lock-send"
# What a run writes, and what file systems put everywhere.
_OURS = re.compile(
    r"[0-9a-f]{12}|run\.json|worklist\.(json|html)|audit\.jsonl|sent(-\d+)?\.json|\..*|lost\+found"
)


class OutputFolder:
    """An output folder held by this run; use it as a context, or ``close`` it.

    Parameters
    ----------
    path : Path
        Made if it is not there, private to the user.

    Raises
    ------
    OutputError
        ``OUTPUT_UNWRITABLE``; ``OUTPUT_NOT_EMPTY`` if it holds what no run writes; ``OUTPUT_BUSY`` while
        another run uses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_content()
            self._lock = locked(path / LOCK)
            clean_leftovers(path)
        except OSError as error:
            self.close()
            raise OutputError(
                "OUTPUT_UNWRITABLE",
                f"The output folder {str(path)!r} cannot be used ({error.strerror}); name another.",
            ) from error
        if self._lock is None:
            raise OutputError(
                "OUTPUT_BUSY",
                f"Another run writes to {str(path)!r}; wait for its end or name another folder.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            unlock(self.path / LOCK, self._lock)
        self._lock = None

    def _check_content(self) -> None:
        others = sum(not _OURS.fullmatch(entry.name) for entry in self.path.iterdir())
        if others:
            # Counted and not named: folders of images are often named after patients.
            raise OutputError(
                "OUTPUT_NOT_EMPTY",
                f"The output folder {str(self.path)!r} holds {others} entries that are no results; "
                "name an empty folder or one of an earlier run.",
            )


def unlock(path: Path, descriptor: int) -> None:
    """Let go of a lock file, and remove it."""
    # Removed while it is held: whoever opened it meanwhile sees that it is gone and tries again.
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(descriptor)


def locked(path: Path) -> int | None:
    """Return the descriptor of a lock file held by this process, or None if another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        # It was removed by the run that held it, between our opening and locking it.
        os.close(descriptor)
