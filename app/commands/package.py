"""``covid-ct-mask-net package``: the application as a MONAI Application Package (container image)."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from covid_ct_mask_net import RESEARCH_NOTICE, __version__
from covid_ct_mask_net.errors import ExitCode, UsageError

_EXAMPLES = """\
examples:
  covid-ct-mask-net package --tag triage:0.1.0            build triage-x64-workstation-dgpu-linux-amd64:0.1.0
  covid-ct-mask-net package --stage-only map-context      everything up to the first call of Docker, offline

Building needs Docker with its buildx plugin and a network; docs/deployment.md says how the image is run.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "package",
        help="build a MONAI Application Package (container image)",
        description="Stage the application, its bundle and its requirements and build a MONAI Application "
        f"Package from them with monai-deploy package. {RESEARCH_NOTICE}",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--tag", default=f"covid-ct-mask-net:{__version__}", help="name and tag of the image (%(default)s)"
    )
    parser.add_argument("--platform", default="x86_64", help="platform of monai-deploy package (%(default)s)")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="bundle folder (default: the one of this installation)"
    )
    parser.add_argument(
        "--stage-only",
        type=Path,
        metavar="DIR",
        help="write the Docker context to DIR and stop before Docker",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Stage or build the package; print the manifests of a staged one."""
    from covid_ct_mask_net.app.application_package import build, make_context, stage
    from covid_ct_mask_net.app.bundles import find_bundle

    destination: Path | None = arguments.stage_only
    if destination is not None and destination.exists():
        raise UsageError("NOT_EMPTY", f"{str(destination)!r} is there already; name a new folder.")
    bundle = find_bundle(arguments.bundle)
    with tempfile.TemporaryDirectory(prefix="covid-ct-mask-net-") as folder:
        context = make_context(bundle, Path(folder))
        if destination is None:
            build(context, arguments.tag, arguments.platform)
        else:
            manifests = stage(context, destination, arguments.tag, arguments.platform)
            sys.stdout.write(json.dumps(manifests, indent=2) + "\n")
    return ExitCode.DONE
