"""Rules that hold for the whole code base."""

from __future__ import annotations

import ast
from collections.abc import Set
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "covid_ct_mask_net"
FOLDERS = {
    "bundle": ROOT / "bundle" / PACKAGE,
    "transforms": ROOT / "transforms",
    "training": ROOT / "training",
    "app": ROOT / "app",
}
# What each part may import of the others; design: imports point one way.
ALLOWED = {
    "bundle": {"bundle"},
    "transforms": {"bundle", "transforms"},
    "training": {"bundle", "transforms", "training"},
    "app": {"bundle", "transforms", "app"},
}
SOURCES = [(part, path) for part, folder in FOLDERS.items() for path in sorted(folder.rglob("*.py"))]
IDS = [str(path.relative_to(ROOT)) for _, path in SOURCES]


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _part(module: str) -> str:
    second = module.split(".")[1] if "." in module else ""
    return second if second in ("transforms", "training", "app") else "bundle"


@pytest.mark.parametrize(("part", "path"), SOURCES, ids=IDS)
def test_imports_point_one_way(part: str, path: Path) -> None:
    ours = {name for name in _imports(path) if name.split(".")[0] == PACKAGE}
    reached = {_part(name) for name in ours}
    assert reached <= ALLOWED[part], f"{part} must not import {reached - ALLOWED[part]}"


@pytest.mark.parametrize(("part", "path"), SOURCES, ids=IDS)
def test_dicom_and_deploy_stay_where_they_belong(part: str, path: Path) -> None:
    imports = _imports(path)
    top_level = {name.split(".")[0] for name in imports}
    if part in ("bundle", "transforms"):
        assert not top_level & {"pydicom", "highdicom", "itk"}, "the bundle knows no DICOM"
    if path.parent.name != "operators":
        assert not any(name.startswith("monai.deploy") for name in imports), "only operators know the App SDK"


@pytest.mark.parametrize(("part", "path"), SOURCES, ids=IDS)
def test_modules_are_small_and_documented(part: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a module says what it is for"
    assert len(text.splitlines()) <= 500, "a module of more than 500 lines wants splitting"


@pytest.mark.parametrize(("part", "path"), SOURCES, ids=IDS)
def test_input_is_not_checked_by_assert(part: str, path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def test_every_module_has_its_test_file() -> None:
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    modules = {path for _, path in SOURCES if path.name not in ("__init__.py", "__main__.py")}
    missing = sorted(str(p.relative_to(ROOT)) for p in modules if f"test_{p.name}" not in tests)
    assert not missing, f"modules without a test file: {missing}"


def test_every_package_is_declared() -> None:
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    found = set()
    for part, folder in FOLDERS.items():
        base = PACKAGE if part == "bundle" else f"{PACKAGE}.{part}"
        for init in folder.rglob("__init__.py"):
            found.add(".".join([base, *init.parent.relative_to(folder).parts]))
    assert found == declared


def test_cases_come_in_the_same_order_in_each_process(request: pytest.FixtureRequest) -> None:
    # pytest-xdist refuses a run whose workers collect in different orders. A set has none, and one of
    # functions agrees between two processes often enough to go unseen.
    unordered = {
        item.nodeid.partition("[")[0]
        for item in request.session.items
        for mark in item.iter_markers("parametrize")
        if any(isinstance(values, Set) for values in (*mark.args[1:2], mark.kwargs.get("argvalues")))
    }
    assert not unordered
