"""``covid-ct-mask-net tables``: the paper's tables and figures from run folders."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.errors import ExitCode

_DESCRIPTION = f"""\
Write Tables 1 to 9 and the figures of the paper from run folders, ours beside the published figures: as
Markdown, CSV and PNG. Figures of classifiers are computed again from predictions, with 95 % intervals; what a
run lacks is said. {RESEARCH_NOTICE}"""
_EXAMPLES = """\
examples:
  covid-ct-mask-net tables runs/* -o tables                         all runs of a folder
  covid-ct-mask-net tables runs -o tables --prevalence 0.9 0.07 0.03    PPV and NPV at that prevalence, too
  covid-ct-mask-net tables runs -o tables --lesions DATA --layout cncb  Figure 2 of a whole data set
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "tables",
        help="write the paper's tables and figures from run folders",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run folder, or a folder that holds run folders"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--prevalence",
        nargs="+",
        type=float,
        metavar="P",
        help="prevalence of each class in their order, adding up to 1",
    )
    parser.add_argument(
        "--lesions", type=Path, metavar="DIR", help="data set with lesion masks, for Figure 2"
    )
    parser.add_argument(
        "--layout",
        choices=("cncb", "volumes", "lesion_slices"),
        default="cncb",
        help="layout of that data set (default: cncb)",
    )
    parser.add_argument("--no-figures", action="store_true", help="tables alone")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Write all tables and figures and say where.

    Returns
    -------
    ExitCode
        Done; refusals are raised.
    """
    from covid_ct_mask_net.training.lesion_statistics import lesion_statistics
    from covid_ct_mask_net.training.sources import labelled_slices
    from covid_ct_mask_net.training.tables.report import ReportOptions, read_runs, write_report

    runs = read_runs(arguments.runs)
    lesions = (
        lesion_statistics(labelled_slices(arguments.layout, arguments.lesions)) if arguments.lesions else ()
    )
    options = ReportOptions(
        prevalence=tuple(arguments.prevalence) if arguments.prevalence else None,
        figures=not arguments.no_figures,
        lesions=lesions,
    )
    files = write_report(runs, arguments.output, options)
    sys.stdout.write(f"{len(runs)} runs, {len(files)} files; begin with {files[0]}\n")
    return ExitCode.DONE
