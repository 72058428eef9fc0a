"""The pages in a real browser, on a desktop and on a phone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders.result_set import made

URGENT_RED = (0xB3, 0x26, 0x1E)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [1280, 500])
def test_the_report_fits_the_window_and_shows_its_pictures(tmp_path: Path, width: int) -> None:
    shot = tmp_path / "page.png"
    subprocess.run(
        [
            "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2000", f"--screenshot={shot}",
            (made().folder / "report.html").as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    page = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    assert page.shape == (2000, width, 3)
    # The box of the notice: drawn, and not cut off at either side.
    red = (np.abs(page - URGENT_RED).sum(axis=2) < 30).any(axis=0)
    columns = np.flatnonzero(red)
    assert 0 < columns[0] < columns[-1] < width - 1
    # The outlines of the key images, in the colour of ground-glass opacity.
    assert (np.abs(page - (255, 214, 10)).sum(axis=2) < 30).sum() > 50
