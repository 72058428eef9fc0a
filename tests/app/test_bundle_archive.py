"""The exported bundle: complete, reproducible, and running where the project is not installed."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from builders.bundles import BUNDLE, small_bundle
from builders.clean_python import make_clean_python
from builders.nifti import make_ct_volume
from covid_ct_mask_net.app.bundle_archive import bundle_files, bundle_name, copy_bundle, write_archive
from covid_ct_mask_net.checkpoints import MANIFEST_NAME, file_sha256, read_manifest
from covid_ct_mask_net.errors import OutputError, UntrustedModelError

# Metadata has one list for all; docs/deployment.md says which packages inference does without.
BEYOND_INFERENCE = {
    "pillow", "pydicom", "pycocotools", "matplotlib", "tensorboard", "onnx", "onnxscript", "onnxruntime",
    "nncf",
}  # fmt: skip
# Distribution that a package is imported from, where the names differ.
DISTRIBUTIONS = {"ignite": "pytorch-ignite", "yaml": "PyYAML", "PIL": "Pillow"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def unzipped(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unzipped")
    with zipfile.ZipFile(write_archive(bundle, folder / "dist")) as archive:
        archive.extractall(folder)
    return folder / "COVID-CT-Mask-Net"


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clean_python(tmp_path_factory.mktemp("clean"))


def _run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
    }  # fmt: skip
    return subprocess.run(
        [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip


def test_it_runs_from_another_folder_without_the_project(
    unzipped: Path, clean_python: Path, tmp_path: Path
) -> None:
    make_ct_volume(tmp_path / "ct.nii.gz")
    config = unzipped / "configs" / "inference.yaml"
    arguments = ("-m", "monai.bundle", "run", "--config_file", str(config), "--dataset_dir", "ct.nii.gz")
    done = _run(clean_python, tmp_path, *arguments, "--output_dir", "out")
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = (tmp_path / "out").glob("*/result.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["status"] == "assessed"
    assert result["model"]["sha256"] == file_sha256(unzipped / "models" / "model.pt")


def test_altered_weights_are_refused_by_the_exported_bundle(
    bundle: Path, clean_python: Path, tmp_path: Path
) -> None:
    copy_bundle(bundle, tmp_path / "altered")
    make_ct_volume(tmp_path / "ct.nii.gz")
    with (tmp_path / "altered" / "models" / "model.pt").open("ab") as file:
        file.write(b"more")
    config = tmp_path / "altered" / "configs" / "inference.yaml"
    arguments = ("-m", "monai.bundle", "run", "--config_file", str(config), "--dataset_dir", "ct.nii.gz")
    done = _run(clean_python, tmp_path, *arguments, "--output_dir", "out")
    assert done.returncode != 0
    assert "MANIFEST.sha256 beside it lists" in done.stderr
    assert not list((tmp_path / "out").glob("*/result.json"))


def test_the_same_bundle_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    first = write_archive(bundle, tmp_path / "first")
    for path in bundle.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    second = write_archive(bundle, tmp_path / "second")
    assert first.name == "COVID-CT-Mask-Net_v0.1.0.zip"
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_an_exported_bundle_exports_itself(unzipped: Path, bundle: Path, tmp_path: Path) -> None:
    first, second = write_archive(bundle, tmp_path / "first"), write_archive(unzipped, tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()


def test_every_file_is_listed_with_its_hash(unzipped: Path) -> None:
    listed = read_manifest(unzipped / MANIFEST_NAME)
    files = [p for p in unzipped.rglob("*") if p.is_file() and p.parent.name != "__pycache__"]
    found = {p.relative_to(unzipped).as_posix(): p for p in files}
    found.pop(MANIFEST_NAME)
    assert listed == {name: file_sha256(path) for name, path in found.items()}
    for name in (
        "LICENSE", "configs/metadata.json", "configs/inference.yaml", "docs/README.md", "models/model.pt",
        "docs/model_card.md", "docs/data_license.txt", "models/MANIFEST.sha256",
        "covid_ct_mask_net/transforms/orientation.py",
        "covid_ct_mask_net/training/__init__.py", "covid_ct_mask_net/schemas/result.schema.json",
    ):  # fmt: skip
        assert name in listed
    assert not [name for name in listed if "__pycache__" in name or name.startswith("covid_ct_mask_net/app")]


def test_its_pages_lead_to_nothing_outside_of_it(unzipped: Path) -> None:
    pages = sorted((unzipped / "docs").glob("*.md"))
    assert [page.name for page in pages] == ["README.md", "model_card.md"]
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                path = (page.parent / target).resolve()
                assert path.is_file(), f"{page.name}: {target}"
                assert path.is_relative_to(unzipped.resolve()), f"{page.name}: {target}"


def test_pages_that_configurations_name_are_in_it(unzipped: Path) -> None:
    text = (unzipped / "configs" / "inference.yaml").read_text(encoding="utf-8")
    assert "models/model.pt" in text
    shipped = (BUNDLE / "configs" / "inference.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"docs/\w+\.md", shipped))
    assert "docs/model_card.md" in named
    assert all((unzipped / name).is_file() for name in named), named


def test_weights_that_are_not_listed_are_not_exported(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "small")
    (bundle / "models" / "other.pt").write_bytes(b"other")
    with pytest.raises(UntrustedModelError, match=r"models/other.pt .* does not list it") as caught:
        write_archive(bundle, tmp_path / "dist")
    assert caught.value.code == "WEIGHTS_UNLISTED"
    (bundle / "models" / "other.pt").rename(bundle / "models" / "model.pt")
    with pytest.raises(UntrustedModelError, match="lists another hash"):
        write_archive(bundle, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UntrustedModelError) as caught:
        bundle_files(tmp_path)
    assert caught.value.code == "BUNDLE_MISSING"


def test_a_destination_that_cannot_be_written(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as caught:
        write_archive(bundle, tmp_path / "file" / "dist")
    assert caught.value.code == "OUTPUT_UNWRITABLE"


def test_the_bundle_of_the_repository_is_whole() -> None:
    assert bundle_name(BUNDLE) == ("COVID-CT-Mask-Net", "0.1.0")
    assert all(path.is_file() for path in bundle_files(BUNDLE).values())


def test_what_the_package_imports_is_stated_in_the_metadata() -> None:
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))
    stated = {name.lower() for name in metadata["required_packages_version"]} | {"torch", "numpy", "monai"}
    assert stated > BEYOND_INFERENCE
    required = stated - BEYOND_INFERENCE
    for inside, path in bundle_files(BUNDLE).items():
        if inside.suffix != ".py":
            continue
        # Calibration of engines asks for nncf where it runs.
        allowed = stated if {"training", "calibration.py"} & set(inside.parts) else required
        for name in _imports(path):
            assert DISTRIBUTIONS.get(name, name).lower() in allowed, f"{inside} imports {name}"


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"covid_ct_mask_net"}
