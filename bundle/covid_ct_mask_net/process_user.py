"""Containers run as users without a name and without a home; packages that are imported ask for both."""

from __future__ import annotations

import atexit
import getpass
import os
import shutil
import tempfile
from pathlib import Path

from covid_ct_mask_net.errors import UsageError

_STAND_IN = "covid-ct-mask-net"


def settle_user() -> None:
    """Give a process a name and a home folder where its user has none.

    Orchestrators start images under arbitrary user ids and with a root file system that is read only. MONAI
    looks up the name of the user when it is imported and ends with a KeyError where there is none; CuPy and
    Matplotlib make cache folders in the home folder, or in a folder named ``~`` where it is unknown. Call
    this before they are imported. A home folder made here goes when the process ends.

    Raises
    ------
    UsageError
        ``NO_TEMPORARY_FOLDER`` if none can be made.
    """
    try:
        getpass.getuser()
    # Python 3.13 makes an OSError of it.
    except (KeyError, OSError):
        os.environ["USER"] = _STAND_IN
    folder = _home()
    if folder is None or not os.access(folder, os.W_OK):
        made = _temporary_home()
        os.environ["HOME"] = made
        # torch makes one among the temporary files, and leaves it there.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(made) / "torchinductor"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)


def _temporary_home() -> str:
    try:
        return tempfile.mkdtemp(prefix=f"{_STAND_IN}-home-")
    except OSError as error:
        raise UsageError(
            "NO_TEMPORARY_FOLDER",
            "The user has no home folder that can be written, and there is no folder for temporary files; "
            "give the process one (a volume at /tmp, or TMPDIR).",
        ) from error


def _home() -> Path | None:
    """Return the home folder by ``HOME`` or by the account, or None."""
    try:
        return Path("~").expanduser()
    except RuntimeError:
        return None
