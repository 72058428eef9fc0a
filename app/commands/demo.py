"""``covid-ct-mask-net demo``: make a small synthetic cohort in DICOM and triage it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.errors import ExitCode


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "demo",
        help="make synthetic chest CT studies and triage them",
        description="Make synthetic chest CT studies with known lesions, in DICOM, and triage them. "
        "The same as the commands that it prints: synthesize, then triage. " + RESEARCH_NOTICE,
        epilog="example:\n  covid-ct-mask-net demo -o demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("demo"), metavar="OUT", help="new folder (default: ./demo)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Run both commands.

    Returns
    -------
    ExitCode
        Of the first command that fails, or done.
    """
    from covid_ct_mask_net.__main__ import main

    cohort, results = arguments.output / "cohort", arguments.output / "results"
    steps = [
        ["synthesize", str(cohort), "--demo"],
        ["triage", str(cohort / "dicom"), "-o", str(results)],
    ]
    for step in steps:
        sys.stdout.write(f"$ covid-ct-mask-net {' '.join(step)}\n")
        sys.stdout.flush()
        code = main(step)
        if code:
            return ExitCode(code)
    return ExitCode.DONE
