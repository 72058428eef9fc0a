"""Put many damaged files through the application and report what became of them.

    python tests/fuzz/many.py --files 10000 --seed 0

Stops with exit code 1 at the first file that breaks a rule, and says which batch of which seed it was in.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from builders.fuzzing import LIMITS, Bench, held_by_process, make_batch, resident_mb
from builders.oracle import oracle_pipeline
from covid_ct_mask_net.app.readers import Readers

# What Python and its libraries may take more in the end than after the first batches, MB: a leak of one
# kilobyte a file would be ten of ten thousand, one of a decoded slice forty.
_GROWTH_MB = 200.0
_SETTLED_AFTER = 5


def main() -> int:
    """Return 0 if all rules held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000, help="damaged files (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="batch to begin with (default: %(default)s)")
    arguments = parser.parse_args()
    started, number, settled = time.monotonic(), arguments.first, 0.0
    with tempfile.TemporaryDirectory() as folder, Readers(LIMITS) as readers:
        bench = Bench(Path(folder), oracle_pipeline())
        bench.warm_up(readers)
        held = held_by_process()
        while bench.report.files < arguments.files:
            try:
                bench.put_through(make_batch(arguments.seed, number), readers)
            # Whatever it is, which damage it came from must be told.
            except Exception as error:
                sys.stdout.write(f"seed {arguments.seed}, batch {number}: {type(error).__name__}: {error}\n")
                if not isinstance(error, AssertionError):
                    raise
                return 1
            number += 1
            if number - arguments.first == _SETTLED_AFTER:
                settled = resident_mb()
            sys.stderr.write(f"\r{bench.report.files} files")
        grown = resident_mb() - settled
        sys.stdout.write(_text(bench, time.monotonic() - started, grown))
        if number - arguments.first > _SETTLED_AFTER and grown > _GROWTH_MB:
            sys.stdout.write(f"Memory grew by {grown:.0f} MB; {_GROWTH_MB:.0f} are allowed.\n")
            return 1
        return int(held_by_process() != held)


def _text(bench: Bench, seconds: float, grown: float) -> str:
    report = bench.report
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    lines = [
        f"\n{report.files} damaged files in {seconds / 60:.1f} min ({own.ru_utime + own.ru_stime:.0f} s of "
        f"processor here, {children.ru_utime + children.ru_stime:.0f} s in ended readers)",
        f"files: {dict(report.outcomes.most_common())}",
        f"studies: {dict(report.studies)}",
        f"peak memory {own.ru_maxrss / 1024:.0f} MB, grown by {grown:.0f} MB since batch {_SETTLED_AFTER}; "
        f"descriptors and processes: {held_by_process()}",
        f"readers that ended or were ended: {len(report.contained)}",
        *report.contained,
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
