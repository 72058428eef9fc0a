"""The bill of materials names what is installed, what it needs, the bundle and the weights."""

from __future__ import annotations

import json
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from covid_ct_mask_net import __version__
from covid_ct_mask_net.app import sbom

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def text() -> str:
    return sbom.bill_of_materials()


@pytest.fixture(scope="module")
def bom(text: str) -> dict:
    return json.loads(text)


def test_it_follows_the_schema_and_is_the_same_again(text: str, tmp_path: Path) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert sbom.main(["-o", str(tmp_path / "sbom.json")]) == 0
    assert (tmp_path / "sbom.json").read_text() == text


def test_the_time_is_that_of_source_date_epoch_or_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "timestamp" not in text
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert json.loads(sbom.bill_of_materials())["metadata"]["timestamp"].startswith("2023-11-14T22:13:20")


def test_every_pinned_requirement_is_there_with_its_version_and_what_it_needs(bom: dict) -> None:
    versions = {one["name"]: one["version"] for one in bom["components"]}
    lines = [line for line in requires("covid-ct-mask-net") or [] if "extra ==" not in line]
    pinned = dict(line.lower().replace("_", "-").split("==") for line in lines)
    assert len(pinned) > 20
    assert pinned.items() <= versions.items()
    needs = {one["ref"]: one.get("dependsOn", []) for one in bom["dependencies"]}
    root = bom["metadata"]["component"]
    assert (root["name"], root["version"]) == ("covid-ct-mask-net", __version__)
    direct = {ref.split("@")[0] for ref in needs[root["bom-ref"]]}
    assert set(pinned) == direct - {"bundle", "bundle/models/model.pt"}
    # What is needed at second hand is there too.
    assert f"pydicom@{version('pydicom')}" in needs[f"highdicom@{version('highdicom')}"]
    assert f"sympy@{version('sympy')}" in needs[f"torch@{version('torch')}"]
    assert "pytest" not in versions


def test_licences_are_named(bom: dict) -> None:
    packages = [one for one in bom["components"] if one["type"] == "library"]
    without = [one["name"] for one in packages if not one.get("licenses")]
    assert len(without) <= len(packages) // 10, without
    assert all(one["purl"].startswith("pkg:pypi/") for one in packages)


def test_weights_and_configurations_are_there_with_their_hashes(bom: dict) -> None:
    by_name = {one["name"]: one for one in bom["components"]}
    listed, name = (ROOT / "bundle" / "models" / "MANIFEST.sha256").read_text().split()
    weights = by_name[f"models/{name}"]
    assert weights["type"] == "machine-learning-model"
    assert weights["hashes"] == [{"alg": "SHA-256", "content": listed}]
    inside = {one["name"] for one in by_name["COVID-CT-Mask-Net bundle"]["components"]}
    assert {"configs/inference.yaml", "configs/metadata.json"} <= inside
