"""What it costs to read files in processes of their own: whole triages with and without them, in turns.

    covid-ct-mask-net synthesize cohort --patients 1 --step 1.1 --format dicom
    python benchmarks/isolation.py cohort/dicom/0000 --slices 300 --rounds 5

The study is sliced anew to 300 slices and triaged by the weights of the bundle, each time in a process of its
own; ``limits.isolation`` is true and false in turns, so that other work on the machine falls on both. Printed
are the clock and the time of the processor (the program and its readers) of each run, and the ratio of each
round; the median of those is the answer.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from studies import slice_anew


@dataclass(frozen=True)
class Run:
    """One triage: seconds by the clock and of the processor, and those of the stage that reads pixels."""

    clock: float
    processor: float
    load: float


def triage(study: Path, output: Path, slices: str, *, isolation: bool) -> Run:
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "covid_ct_mask_net", "triage", str(study), "-o", str(output), "--quiet"]
    command += ["--slices", slices, "--set", f"limits.isolation={str(isolation).lower()}"]
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True)  # noqa: S603
    clock, after = time.perf_counter() - start, os.times()
    processor = sum(after[2:4]) - sum(before[2:4])
    (seconds,) = json.loads((output / "run.json").read_text())["seconds"]["studies"].values()
    return Run(clock, processor, seconds["load"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "study", type=Path, help="folder with one chest CT series of single-frame DICOM files"
    )
    parser.add_argument("--slices", type=int, default=300, help="slices of the study")
    parser.add_argument("--read", default="all", metavar="WHICH", help="as triage --slices")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slice_anew(arguments.study, folder / "study", arguments.slices, 1)
        # Graphs are compiled once a machine: not in the time.
        triage(folder / "study", folder / "out", "every=60", isolation=True)
        print(
            "round  processes: clock processor load   inside: clock processor load   ratio: clock processor"
        )
        clocks, processors = [], []
        for number in range(1, arguments.rounds + 1):
            # Each comes first in every other round.
            order = (True, False) if number % 2 else (False, True)
            runs = {
                isolation: triage(folder / "study", folder / "out", arguments.read, isolation=isolation)
                for isolation in order
            }
            apart, inside = runs[True], runs[False]
            clocks.append(apart.clock / inside.clock)
            processors.append(apart.processor / inside.processor)
            each = "".join(f"{r.clock:17.1f} {r.processor:9.1f} {r.load:4.1f}" for r in (apart, inside))
            print(f"{number:5}{each}{clocks[-1]:15.3f} {processors[-1]:9.3f}", flush=True)
    print(f"median of {arguments.rounds}: clock {statistics.median(clocks):.3f}, "
          f"processor {statistics.median(processors):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
