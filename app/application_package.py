"""The MONAI Application Package (MAP): a build context that is clean, and the packager that builds it.

``monai-deploy package`` (holoscan-cli 4.2.0) copies folders as they are, fetches a list of base images from
the network, and takes every folder in a model folder for a model. What it is given here is made for it: the
application with the whole Python package and nothing else, the exported bundle under ``models/<name>/``, the
pinned requirements, and the list of base images that belongs to the pinned Holoscan.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from covid_ct_mask_net.app.bundle_archive import PACKAGE, bundle_name, copy_bundle, package_folder
from covid_ct_mask_net.errors import CovidCTMaskNetError, OutputError, UsageError

DEFAULT_PLATFORM = "x86_64"
_APP_FILES = ("__main__.py", "app.yaml")
_SUFFIXES = (".py", ".json", ".typed")


class PackagingError(CovidCTMaskNetError):
    """The packager did not build the image (exit 70); its own messages say why."""


@dataclass(frozen=True)
class BuildContext:
    """What the packager is given.

    Attributes
    ----------
    application
        Folder with ``__main__.py``, ``app.yaml``, ``requirements.txt`` and the Python package.
    models
        Folder with the bundle as its only folder.
    docs
        Documentation and licences.
    sources
        Base images by Holoscan version.
    """

    application: Path
    models: Path
    docs: Path
    sources: Path

    def arguments(self, tag: str, platform: str) -> list[str]:
        """Return the arguments of ``monai-deploy package``."""
        return [
            "package", str(self.application), "--config", str(self.application / "app.yaml"),
            "--tag", tag, "--platform", platform, "--models", str(self.models), "--docs", str(self.docs),
            "--source", str(self.sources), "--sdk", "monai-deploy",
        ]  # fmt: skip


def make_context(bundle: Path, folder: Path) -> BuildContext:
    """Write the build context of a bundle into an empty folder.

    Parameters
    ----------
    bundle : Path
        Bundle folder; its weights must be listed.
    folder : Path
        Made if it is not there; must be empty.

    Raises
    ------
    UsageError
        ``NOT_EMPTY``, or ``NO_REQUIREMENTS`` if the project was not installed from a checkout.
    UntrustedModelError
        If the weights of the bundle are not listed in its manifest.
    OutputError
        ``OUTPUT_UNWRITABLE``.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("NOT_EMPTY", f"{str(folder)!r} is not an empty folder; name a new one.")
    application = package_folder(f"{PACKAGE}.app")
    requirements = application.resolve().parent / "requirements.txt"
    if not requirements.is_file():
        raise UsageError(
            "NO_REQUIREMENTS",
            f"There is no {requirements}; package from a checkout that was installed with pip install -e .",
        )
    context = BuildContext(folder / "app", folder / "models", folder / "docs", folder / "artifacts.json")
    try:
        copy_bundle(bundle, context.models / bundle_name(bundle)[0])
        _copy_application(application, context.application)
        # The packager appends to the last line.
        pins = requirements.read_text(encoding="utf-8").rstrip() + "\n"
        (context.application / "requirements.txt").write_text(pins, encoding="utf-8")
        shutil.copytree(bundle / "docs", context.docs)
        shutil.copy(bundle / "LICENSE", context.docs / "LICENSE")
        shutil.copy(application / "artifacts.json", context.sources)
    except OSError as error:
        raise OutputError(
            "OUTPUT_UNWRITABLE", f"The build context cannot be written to {str(folder)!r}: {error.strerror}."
        ) from error
    return context


def stage(context: BuildContext, destination: Path, tag: str, platform: str) -> dict[str, Any]:
    """Let the packager do all up to its first call of Docker and keep what it hands to Docker.

    Parameters
    ----------
    context : BuildContext
    destination : Path
        Folder for the Docker context; must not exist.
    tag, platform : str
        As for ``monai-deploy package``.

    Returns
    -------
    dict
        ``app.json`` and ``pkg.json`` of the package.

    Raises
    ------
    PackagingError
        ``PACKAGER_FAILED``.
    """
    from holoscan_cli.__main__ import main

    with _without_docker(destination), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(["monai-deploy", *context.arguments(tag, platform)])
        except SystemExit as error:
            if error.code:
                raise _failed(error.code) from error
    return {
        name: json.loads((destination / "map" / name).read_text(encoding="utf-8"))
        for name in ("app.json", "pkg.json")
    }


def build(context: BuildContext, tag: str, platform: str) -> None:
    """Build the image with ``monai-deploy package``; needs Docker with buildx, and a network.

    Raises
    ------
    PackagingError
        ``PACKAGER_FAILED``.
    """
    command = [sys.executable, "-m", "holoscan_cli", *context.arguments(tag, platform)]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 (arguments of ours)
    if code:
        raise _failed(code)


def _without_docker(destination: Path) -> AbstractContextManager[Any]:
    """Put a copy of the build context in the place of the packager's two calls of Docker."""
    from holoscan_cli.packager import container_builder

    def keep(*, context_path: str, **_: Any) -> None:
        shutil.copytree(context_path, destination)
        # The packager's own folder is for its user alone.
        destination.chmod(0o755)

    return patch.multiple(
        container_builder, create_and_get_builder=lambda name: name, build_docker_image=keep
    )


def _failed(code: object) -> PackagingError:
    return PackagingError(
        "PACKAGER_FAILED",
        f"monai-deploy package ended with {code}; its messages above say why. --stage-only needs no Docker.",
    )


def _copy_application(application: Path, target: Path) -> None:
    """Write the application: its entry point, and the Python package beside it, where it is imported from."""
    for name in _APP_FILES:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(application / name, target / name)
    parts = {PACKAGE: target / PACKAGE}
    parts |= {f"{PACKAGE}.{part}": target / PACKAGE / part for part in ("transforms", "app")}
    for package, folder in parts.items():
        source = package_folder(package)
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source)
            if path.suffix in _SUFFIXES and "__pycache__" not in inside.parts:
                (folder / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / inside)
