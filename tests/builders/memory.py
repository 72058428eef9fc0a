"""What a program and the processes that it starts take of memory together, as the kernel counts it."""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_EVERY_SECONDS = 0.1


@dataclass(frozen=True)
class Measured:
    """How a program ended, and the most memory that it took in MB: alone, and with what it started."""

    code: int
    stderr: str
    alone_mb: float
    together_mb: float
    seconds: float


def measured(command: Sequence[str], environment: dict[str, str], timeout: float) -> Measured:
    """Run a program and look at it ten times a second until it ends.

    The kernel keeps the high-water mark of each process, so that nothing is missed between two looks. Their
    sum is an upper bound: the marks are of different times, and pages that processes share count for each.
    """
    alone, marks = 0.0, dict[int, float]()
    start = time.monotonic()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            for pid in (process.pid, *descendants(process.pid)):
                # Between fork and exec a child is its parent's image and has its mark.
                if pid == process.pid or _command(pid) != _command(process.pid):
                    marks[pid] = high_water_kb(pid) or marks.get(pid, 0.0)
            alone = max(alone, marks.get(process.pid, 0.0))
            if time.monotonic() - start > timeout:
                process.kill()
            time.sleep(_EVERY_SECONDS)
        said = process.stderr.read() if process.stderr is not None else ""
    seconds = time.monotonic() - start
    return Measured(process.returncode, said, alone / 1024, sum(marks.values()) / 1024, seconds)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and those that they did."""
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children[int(fields[1])].append(int(stat.parent.name))
    found = list(children[pid])
    for child in found:
        found += children[child]
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def high_water_kb(pid: int) -> float:
    """Return the most memory that a process took so far; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0.0)
