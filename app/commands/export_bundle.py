"""``covid-ct-mask-net export-bundle``: the bundle as a self-contained zip."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.errors import ExitCode

_EXAMPLES = """\
example:
  covid-ct-mask-net export-bundle dist
  unzip dist/COVID-CT-Mask-Net_v0.1.0.zip && cd COVID-CT-Mask-Net && sha256sum -c --quiet MANIFEST.sha256
  python -m monai.bundle run --config_file configs/inference.yaml --dataset_dir CT.nii.gz --output_dir OUT

The zip needs no installation of this project, only the packages that configs/metadata.json requires.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "export-bundle",
        help="write the bundle as a self-contained zip",
        description="Write the MONAI bundle with its package, its weights and the hashes of all files into "
        "one zip. The same bundle gives the same bytes. Weights that models/MANIFEST.sha256 does not list "
        f"are refused (exit 5). {RESEARCH_NOTICE}",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("destination", type=Path, metavar="DIST", help="folder for the zip")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="bundle folder (default: the one of this installation)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Write the zip and print its path and SHA-256."""
    from covid_ct_mask_net.app.bundle_archive import write_archive
    from covid_ct_mask_net.app.bundles import find_bundle
    from covid_ct_mask_net.checkpoints import file_sha256

    path = write_archive(find_bundle(arguments.bundle), arguments.destination)
    sys.stdout.write(f"{file_sha256(path)}  {path}\n")
    return ExitCode.DONE
