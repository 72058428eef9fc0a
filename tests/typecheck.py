"""Run mypy on the package as it is installed.

``package-dir`` maps four folders of the repository to one import name, which mypy cannot follow; a
temporary tree of links shows it the layout that users import.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "covid_ct_mask_net"


def main() -> int:
    """Return mypy's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / PACKAGE
        package.mkdir()
        for entry in (ROOT / "bundle" / PACKAGE).iterdir():
            (package / entry.name).symlink_to(entry)
        for name in ("transforms", "training", "app"):
            (package / name).symlink_to(ROOT / name)
        command = [
            sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", PACKAGE,
            "--cache-dir", str(ROOT / ".mypy_cache"), *sys.argv[1:],
        ]  # fmt: skip
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
