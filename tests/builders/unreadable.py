"""Folders that cannot be listed, also for root, whom permissions do not stop."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest


def deny_listing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the system refuse to list a folder."""
    listing = os.scandir

    def scandir(path: Any = ".") -> Any:
        if Path(os.fsdecode(path)).resolve() == folder.resolve():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
