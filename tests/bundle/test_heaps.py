from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# A heap besides the first reserves 64 MiB that end at a multiple of that.
_PROGRAM = """
import ctypes, threading
from pathlib import Path
from covid_ct_mask_net.heaps import share_heaps
if {shared}:
    share_heaps()
together = threading.Barrier(8)
def work():
    together.wait()
    held = ctypes.CDLL(None).malloc(1000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ends = [int(line.split()[0].split("-")[1], 16) for line in Path("/proc/self/maps").read_text().splitlines()
        if line.split()[1] == "---p"]
print(sum(end % (64 << 20) == 0 for end in ends))
"""


def _heaps(shared: bool, **variables: str) -> int:
    environment = {key: value for key, value in os.environ.items() if key != "MALLOC_ARENA_MAX"} | variables
    command = [sys.executable, "-c", _PROGRAM.format(shared=shared)]
    return int(subprocess.run(command, capture_output=True, check=True, env=environment, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps of threads are those of glibc")
def test_threads_share_two_heaps_unless_somebody_decided() -> None:
    alone, shared = _heaps(shared=False), _heaps(shared=True)
    assert shared <= 1 < alone
    assert _heaps(shared=True, MALLOC_ARENA_MAX="16") > 1
