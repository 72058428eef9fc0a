"""An interpreter that sees the packages of this one, but not this project."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def system_python() -> Path:
    """Return an interpreter of this one's version that every user can run, or this one if there is none."""
    found = shutil.which("python{}.{}".format(*sys.version_info), path="/usr/local/bin:/usr/bin")
    return Path(found or sys.executable)


def make_clean_python(folder: Path, base: Path = Path(sys.executable)) -> Path:
    """Make a virtual environment without the project and return its interpreter; skip where that fails."""
    subprocess.run([base, "-m", "venv", "--without-pip", "--symlinks", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Paths in .pth files are added as they are: .pth files inside, such as that of an editable install,
    # are not read.
    seen = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "packages.pth").write_text("\n".join(seen), encoding="utf-8")
    python = folder / "bin" / "python"
    found = subprocess.run(
        [python, "-c", "import monai, covid_ct_mask_net"], capture_output=True, text=True, cwd=folder,
        check=False,
    )  # fmt: skip
    # A wheel lies where the other packages lie, so an interpreter without it but with them cannot be made.
    if found.returncode == 0:
        pytest.skip("the project is installed as a wheel among the packages")
    assert "No module named 'covid_ct_mask_net'" in found.stderr
    return python
