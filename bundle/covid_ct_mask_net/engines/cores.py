"""How many cores this process may use: those of its affinity, and no more than its container's quota."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path, PurePosixPath


def usable_cores() -> int:
    """Return the number of cores that work of this process can be done on at a time; at least one.

    ``docker run --cpus 2`` and limits of Kubernetes leave the affinity as it is and set a quota of processor
    time: with a thread for each core of the host every thread is held up, and has memory of its own.
    """
    # Python itself counts cores without looking at quotas.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


@cache
def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the processor time that control groups allow this process, in cores, or None without a limit.

    A container has its limits from its start: they are read once.

    Parameters
    ----------
    root : Path
        Under which ``proc`` and ``sys`` lie.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    quotas = []
    for line in lines:
        # Number, controllers and path; version 2 has one group for all controllers, without a name.
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if not names:
            mounts, read = ("", "unified"), _version_2
        elif "cpu" in names.split(","):
            mounts, read = (names, "cpu"), _version_1
        else:
            continue
        for mount in mounts:
            folder = root / "sys/fs/cgroup" / mount
            quotas += [read(folder / group) for group in _with_parents(path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _with_parents(path: str) -> list[PurePosixPath]:
    """Return a group and those above it, whose limits hold too.

    In a container the mount begins with its own group, and the path may be that of the host.
    """
    group = PurePosixPath("/", path).relative_to("/")
    return [group, *group.parents]


def _version_2(group: Path) -> float | None:
    """Read ``cpu.max``: microseconds, or "max", in each period of microseconds."""
    return _cores(_text(group / "cpu.max").split())


def _version_1(group: Path) -> float | None:
    """Read the quota and the period of the scheduler, both in microseconds; -1 is no limit."""
    return _cores([_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")])


def _cores(numbers: list[str]) -> float | None:
    try:
        quota, period = (float(number) for number in numbers)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
