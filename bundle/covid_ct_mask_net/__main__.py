"""Command line: ``covid-ct-mask-net COMMAND …`` or ``python -m covid_ct_mask_net COMMAND …``.

The one module that knows all parts of the product. Commands are imported when the command line needs them,
so that ``--help`` is instant and the bundle runs where the application is not installed.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from covid_ct_mask_net import RESEARCH_NOTICE, __version__, lean_imports
from covid_ct_mask_net.errors import ExitCode
from covid_ct_mask_net.exit_codes import exit_code
from covid_ct_mask_net.heaps import share_heaps
from covid_ct_mask_net.process_user import settle_user

COMMANDS = (
    "covid_ct_mask_net.app.commands.triage",
    "covid_ct_mask_net.app.commands.send",
    "covid_ct_mask_net.app.commands.demo",
    "covid_ct_mask_net.app.commands.export_bundle",
    "covid_ct_mask_net.app.commands.package",
    "covid_ct_mask_net.training.commands.synthesize",
    "covid_ct_mask_net.training.commands.splits",
    "covid_ct_mask_net.training.commands.tables",
    "covid_ct_mask_net.training.commands.import_checkpoint",
)

_ADVICE = "Report it with the traceback (triage shows it with --debug)."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process if not given.
    """
    # MONAI imports everything in its namespace; Holoscan, beside it, advises on stack sizes at import.
    warnings.filterwarnings("ignore", message="Current stack size")
    # Before commands are imported, which look for the user's name.
    unsettled = exit_code(_settled, debug=True, advice=_ADVICE)
    if unsettled:
        return unsettled
    arguments = build_parser().parse_args(argv)
    return exit_code(
        lambda: arguments.run(arguments),
        # Tracebacks may name paths: commands on studies show them on demand.
        debug=getattr(arguments, "debug", True),
        advice=_ADVICE,
    )


def _settled() -> int:
    settle_user()
    return int(ExitCode.DONE)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands of this installation."""
    parser = argparse.ArgumentParser(
        prog="covid-ct-mask-net",
        description="Chest CT: outline ground-glass opacity and consolidation, tell Control, Common "
        "Pneumonia and COVID-19 apart, and triage scans.",
        epilog=f"{RESEARCH_NOTICE} Exit codes: 0 done, 2 usage, 3 nothing assessable, 4 refused input, "
        "5 weights or bundle not trusted, 6 output failed, 70 internal; with several studies the worst.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}. {RESEARCH_NOTICE}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module_name in COMMANDS:
        module = _command(module_name)
        if module is not None:
            module.add_parser(subparsers)
    return parser


def _command(module_name: str) -> ModuleType | None:
    """Import a command, or return None where its part of the product is not installed."""
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            return None
        raise


def program() -> NoReturn:
    """Run `main` as a program.

    Python would take torch and MONAI apart, module by module, for two seconds at the end of a command that
    has done all it was asked. What is registered for the end runs; the rest the system takes back at once.
    """
    lean_imports.allow()
    share_heaps()
    code = main()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    program()
