"""The MONAI Application Package: what is staged, what its manifests say, and that it runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders.bundles import small_bundle
from builders.clean_python import make_clean_python, system_python
from builders.dicom import make_ct_series
from builders.nifti import SPACING_MM
from covid_ct_mask_net import __version__
from covid_ct_mask_net.app.application_package import BuildContext, build, make_context, stage
from covid_ct_mask_net.errors import CovidCTMaskNetError, OutputError, UntrustedModelError, UsageError

ROOT = Path(__file__).resolve().parents[2]
SEMANTIC_VERSION = r"\d+\.\d+\.\d+"
ARBITRARY_USER = 54321


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that other users can read, unlike pytest's."""
    path = Path(tempfile.mkdtemp(prefix="map-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def context(folder: Path) -> BuildContext:
    return make_context(small_bundle(folder / "bundle"), folder / "context")


@pytest.fixture(scope="module")
def staged(context: BuildContext, folder: Path) -> Path:
    (folder / "manifests.json").write_text(
        json.dumps(stage(context, folder / "staged", "triage:0.1.0", "x86_64")), encoding="utf-8"
    )
    return folder / "staged"


@pytest.fixture(scope="module")
def manifests(staged: Path, folder: Path) -> dict[str, Any]:
    manifests: dict[str, Any] = json.loads((folder / "manifests.json").read_text(encoding="utf-8"))
    return manifests


def test_the_application_manifest_keeps_to_the_specification(manifests: dict[str, Any]) -> None:
    app = manifests["app.json"]
    # holoscan-cli writes a list in a string; the specification says shell command.
    assert json.loads(app["command"]) == ["python3", "/opt/holoscan/app"]
    assert app["input"]["formats"] == [{"data": "image", "format": "dicom", "protocols": ["file"]}]
    assert {entry["format"] for entry in app["output"]["formats"]} == {"dicom-sr", "json"}
    assert app["version"] == __version__
    assert app["workingDirectory"].startswith("/")
    assert isinstance(app["timeout"], int)
    for name in ("apiVersion", "version", "sdkVersion"):
        assert re.fullmatch(SEMANTIC_VERSION, app[name])
    for name in ("INPUT_PATH", "OUTPUT_PATH", "WORKDIR", "MODEL_PATH", "CONFIG_PATH"):
        assert app["environment"][f"HOLOSCAN_{name}"]


def test_the_package_manifest_keeps_to_the_specification(manifests: dict[str, Any], staged: Path) -> None:
    package = manifests["pkg.json"]
    assert package["applicationRoot"] == "/opt/holoscan/app"
    assert package["modelRoot"] == "/opt/holoscan/models"
    # One model, where a bundle folder given as it is would count as three.
    assert package["models"] == {"COVID-CT-Mask-Net": "/opt/holoscan/models/COVID-CT-Mask-Net"}
    assert package["version"] == __version__
    resources = package["resources"]
    assert resources["cpu"] >= 1
    assert resources["gpu"] == 0
    for name in ("memory", "gpuMemory", "sharedMemory"):
        assert re.fullmatch(r"\d+[GM]i", resources[name])
    dockerfile = (staged / "Dockerfile").read_text(encoding="utf-8")
    assert 'org.opencontainers.image.version="0.1.0"' in dockerfile
    assert "research use only" in dockerfile
    assert "nvcr.io/nvidia/cuda:13.0.0-runtime-ubuntu24.04" in dockerfile


def test_the_configuration_has_both_spellings_and_versions_as_text() -> None:
    application = yaml.safe_load((ROOT / "app" / "app.yaml").read_text(encoding="utf-8"))["application"]
    assert application["inputFormats"] == application["input-formats"]
    assert application["outputFormats"] == application["output-formats"]
    assert application["version"] == __version__
    assert "pip-packages" not in application, "the packager glues them to the last requirement"


def test_the_context_is_clean_and_complete(staged: Path) -> None:
    files = {path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file()}
    assert {
        "app/__main__.py", "app/app.yaml", "app/requirements.txt", "app/covid_ct_mask_net/pipeline.py",
        "app/covid_ct_mask_net/app/chain.py", "app/covid_ct_mask_net/transforms/orientation.py",
        "docs/LICENSE", "docs/README.md", "docs/model_card.md",
        "models/COVID-CT-Mask-Net/docs/model_card.md", "map/app.json", "map/pkg.json", "pip/requirements.txt",
        "models/COVID-CT-Mask-Net/models/model.pt", "models/COVID-CT-Mask-Net/MANIFEST.sha256",
    } <= files  # fmt: skip
    assert not [name for name in files if "__pycache__" in name or name.startswith("app/.")]


def test_requirements_stay_one_a_line(staged: Path) -> None:
    text = (staged / "pip" / "requirements.txt").read_text(encoding="utf-8")
    assert text.endswith("\n")
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    expected = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert pins == [line for line in expected if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert {"holoscan-cli==4.2.0", "holoscan-cu13==4.2.0"} <= set(pins)


def test_the_staged_application_runs_as_in_its_container(staged: Path, folder: Path) -> None:
    """Variables of the image, working directory /, no HOME, no network, an unknown user, a read-only root."""
    python = make_clean_python(folder / "clean", system_python())
    columns, rows, slices = SPACING_MM
    make_ct_series(folder / "input" / "study", spacing=(slices, rows, columns))
    output, temporary = folder / "output", folder / "tmp"
    for writable in (output, temporary):
        writable.mkdir()
        writable.chmod(0o777)
    for path in staged.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = [*_confined(python, (output, temporary)), str(python), str(staged / "app")]
    environment = {
        "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary),
        "HOLOSCAN_INPUT_PATH": str(folder / "input"),
        "HOLOSCAN_OUTPUT_PATH": str(output), "HOLOSCAN_MODEL_PATH": str(staged / "models"),
        "HOLOSCAN_WORKDIR": str(folder), "HOLOSCAN_APPLICATION": str(staged / "app"),
        "HOLOSCAN_CONFIG_PATH": str(staged / "app.config"),
        "HOLOSCAN_APP_MANIFEST_PATH": str(staged / "map" / "app.json"),
        "HOLOSCAN_PKG_MANIFEST_PATH": str(staged / "map" / "pkg.json"),
        "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
    }  # fmt: skip
    before = sorted(path.name for path in folder.iterdir())
    done = subprocess.run(
        command, cwd="/", env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (result,) = output.glob("*/result.json")
    content = json.loads(result.read_text(encoding="utf-8"))
    assert content["status"] == "assessed"
    assert content["model"]["name"] == "small"
    assert (result.parent / "sr.dcm").is_file()
    assert {"worklist.json", "run.json"} <= {path.name for path in output.iterdir()}
    assert sorted(path.name for path in folder.iterdir()) == before, "nothing is written elsewhere"
    assert not list(temporary.glob("*home*")), "the stand-in for the home folder goes with the process"


def _confined(python: Path, writable: tuple[Path, ...]) -> list[str]:
    """How to run a command as the container would; the strictest way that this system allows.

    Without a network, as a user that the system does not know, and with a root file system that is read only
    but for the folders named. The command must be able to start its interpreter again: `setpriv` itself may
    reach one that its user may not.
    """
    user = ["setpriv", f"--reuid={ARBITRARY_USER}", f"--regid={ARBITRARY_USER}", "--clear-groups"]
    keep = " && ".join(f"mount --bind {path} {path}" for path in writable)
    mounts = f'{keep} && mount -o remount,bind,ro / && exec "$@"'
    read_only = ["unshare", "--net", "--mount", "sh", "-c", mounts, "sh", *user]
    again = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import numpy']))"
    for prefix in (read_only, ["unshare", "--net", *user], ["unshare", "--user", "--net"], user):
        if _works([*prefix, str(python), "-c", again]):
            return prefix
    return []


def _works(command: list[str]) -> bool:
    if os.name != "posix" or shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bundle = small_bundle(tmp_path / "bundle")
    for used in (tmp_path, tmp_path / "file"):
        with pytest.raises(UsageError) as caught:
            make_context(bundle, used)
        assert caught.value.code == "NOT_EMPTY"
    with pytest.raises(OutputError) as unwritable:
        make_context(bundle, tmp_path / "file" / "context")
    assert unwritable.value.code == "OUTPUT_UNWRITABLE"


def test_unlisted_weights_are_not_packaged(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle")
    (bundle / "models" / "MANIFEST.sha256").unlink()
    with pytest.raises(UntrustedModelError) as caught:
        make_context(bundle, tmp_path / "context")
    assert caught.value.code == "WEIGHTS_UNLISTED"


def test_what_the_packager_refuses_is_passed_on(context: BuildContext, tmp_path: Path) -> None:
    with pytest.raises(CovidCTMaskNetError) as caught:
        stage(context, tmp_path / "staged", "triage:0.1.0", "x64-workstation")
    assert caught.value.code == "PACKAGER_FAILED"
    assert caught.value.exit_code == 70


def test_without_docker_the_build_says_so(
    context: BuildContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CovidCTMaskNetError, match="--stage-only needs no Docker") as caught:
        build(context, "triage:0.1.0", "x86_64")
    assert caught.value.code == "PACKAGER_FAILED"
