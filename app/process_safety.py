"""How a process that handles patient data behaves: private files, no core dumps, and an end when told to."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

# Orchestrators send SIGKILL 10 to 30 s after SIGTERM.
GRACE_SECONDS = 5.0
# As shells report an end by a signal.
_EXIT_BY_SIGTERM = 128 + int(signal.SIGTERM)


class TerminatedError(SystemExit):
    """The process was told to end; nothing but cleaning up follows."""

    def __init__(self) -> None:
        super().__init__(_EXIT_BY_SIGTERM)


@contextlib.contextmanager
def settled_process(grace_seconds: float = GRACE_SECONDS) -> Iterator[None]:
    """Make files private (umask 077), write no core dumps, and end within seconds of SIGTERM.

    The first process of a container gets no default action for SIGTERM, so one is needed. Where Python code
    runs, the signal raises `TerminatedError`, and half-written results are removed; where native code runs
    for longer than ``grace_seconds``, the process ends without that, and the next run cleans up.

    A program that goes on after the context, which called the command as a function, is as it was before.
    """
    with contextlib.ExitStack() as held:
        held.callback(os.umask, os.umask(0o077))
        # A core dump holds the pixels and headers of a patient.
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        held.callback(resource.setrlimit, resource.RLIMIT_CORE, (soft, hard))
        # Only the main thread may install handlers; inside another program they are that program's.
        if threading.current_thread() is threading.main_thread():
            _end_when_told(held, grace_seconds)
        try:
            yield
        except TerminatedError:
            # The process ends: what was installed holds to its end.
            held.pop_all()
            raise


def _end_when_told(held: contextlib.ExitStack, grace_seconds: float) -> None:
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    # The thread ends, and closes its end, when nobody can tell it anything any more.
    held.callback(os.close, tell)
    held.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(tell, warn_on_full_buffer=False))
    # None: a handler that was not installed from Python, and cannot be put back.
    held.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _terminate) or signal.SIG_DFL)
    threading.Thread(target=_end_late, args=(told, grace_seconds), daemon=True, name="termination").start()


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    # A second signal must not interrupt the cleaning up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stderr.write("Ended by SIGTERM; results of studies that were finished are complete.\n")
    raise TerminatedError


def _end_late(told: int, grace_seconds: float) -> None:
    """End the process if the handler had no chance to, because native code kept the main thread."""
    while number := os.read(told, 1):
        if number[0] == signal.SIGTERM:
            time.sleep(grace_seconds)
            os._exit(_EXIT_BY_SIGTERM)
    os.close(told)
