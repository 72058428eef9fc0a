"""Where the bundle lies, and what a file is that stands for one; told without loading anything."""

from __future__ import annotations

import zipfile
from pathlib import Path

from covid_ct_mask_net.errors import UntrustedModelError


def bundle_root() -> Path:
    """Return the folder of the bundle that this package is part of: the one with configs/metadata.json.

    Raises
    ------
    UntrustedModelError
        If the package was installed without its bundle; the sentence says where it was looked for.
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / "configs" / "metadata.json").is_file():
        raise UntrustedModelError(
            "BUNDLE_MISSING",
            f"There is no configs/metadata.json in {root}; name the bundle with --bundle, "
            "or install the project from its checkout with pip install -e .",
        )
    return root


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive: a zip with compiled code and constants."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())
