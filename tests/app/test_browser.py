"""The pages in a real browser, on a desktop and on a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders.result_set import made
from covid_ct_mask_net.app.html_worklist import html_worklist
from covid_ct_mask_net.worklist import WorklistEntry

URGENT_RED = (0xB3, 0x26, 0x1E)
GROUND_GLASS_YELLOW = (255, 214, 10)

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")


@pytest.fixture
def pages(tmp_path: Path) -> dict[str, Path]:
    """Return the page of a study, and a worklist with it."""
    entry = WorklistEntry.of(made().result)
    worklist = tmp_path / "worklist.html"
    worklist.write_text(html_worklist([entry, entry], {entry.pseudonym}), encoding="utf-8")
    return {"report": made().folder / "report.html", "worklist": worklist}


def browse(folder: Path, page: Path, *switches: str) -> str:
    command = [
        "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}", *switches, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, timeout=120, text=True).stdout


@pytest.mark.parametrize("name", ["report", "worklist"])
def test_nothing_is_wider_than_the_screen_of_a_phone(
    pages: dict[str, Path], tmp_path: Path, name: str
) -> None:
    # A window of the browser is no narrower than 500 pixels; a frame in it is as narrow as a phone.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe id="phone" width="360" height="640" src="{pages[name].as_uri()}"></iframe><script>'
        "phone.onload = () => { const page = phone.contentDocument.documentElement;"
        "document.body.dataset.widths = page.scrollWidth + ' ' + page.clientWidth; }</script>",
        encoding="utf-8",
    )
    told = re.search(r'data-widths="(\d+) (\d+)"', browse(tmp_path, frame, "--dump-dom"))
    assert told is not None
    needed, there = map(int, told.groups())
    assert needed <= there == 360


@pytest.mark.parametrize("width", [1280, 500])
@pytest.mark.parametrize("name", ["report", "worklist"])
def test_the_page_fits_the_window_and_shows_its_pictures(
    pages: dict[str, Path], tmp_path: Path, width: int, name: str
) -> None:
    shot = tmp_path / "page.png"
    browse(tmp_path, pages[name], f"--window-size={width},2000", f"--screenshot={shot}")
    page = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    assert page.shape == (2000, width, 3)
    # The box of the notice: drawn, and not cut off at either side.
    red = (np.abs(page - URGENT_RED).sum(axis=2) < 30).any(axis=0)
    columns = np.flatnonzero(red)
    assert 0 < columns[0] < columns[-1] < width - 1
    # The outlines of the key images of a study.
    outlines = (np.abs(page - GROUND_GLASS_YELLOW).sum(axis=2) < 30).sum()
    assert (outlines > 50) == (name == "report")
