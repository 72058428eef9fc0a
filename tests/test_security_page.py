"""SECURITY.md, the pins and the version floors say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]


def floors() -> dict[str, Version]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        table = tomllib.load(file)["tool"]["covid-ct-mask-net"]["at-least"]
    return {name: Version(version) for name, version in table.items()}


def test_pins_are_not_below_the_floors() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and line[0] != "#")
    for name, floor in floors().items():
        assert Version(pins[name]) >= floor, name


def test_the_page_asks_for_no_more_than_the_floors() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines() if line.startswith("| ")]
    asked = [row[4] for row in rows if len(row) == 7 and re.fullmatch(r"[a-z]+ [\d.]+", row[4])]
    assert len(asked) >= 8
    for name in {cell.split()[0] for cell in asked}:
        highest = max(Version(cell.split()[1]) for cell in asked if cell.split()[0] == name)
        assert highest == floors()[name]
    assert {cell.split()[0] for cell in asked} == set(floors())


def test_what_is_answered_by_not_using_it_is_not_used() -> None:
    """No program of pynetdicom, no FileSet, no GDCM, no .pt2 package, no download of bundles."""
    forbidden = re.compile(
        r"pynetdicom\.apps|pydicom\.fileset|import gdcm|torch\.export\.load|ITKReader|bundle\.download"
    )
    sources = [p for part in ("app", "bundle", "transforms") for p in (ROOT / part).rglob("*.py")]
    assert len(sources) > 100
    assert not [path.name for path in sources if forbidden.search(path.read_text(encoding="utf-8"))]
