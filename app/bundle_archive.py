"""The bundle as one self-contained, reproducible zip: what `export-bundle` writes and `package` stages.

In the repository the package is spread over folders; in the exported bundle it lies whole beside ``configs``,
so that ``python -m monai.bundle run`` needs nothing but the packages that the metadata requires. Entries are
sorted, have one date and one mode: equal contents make equal bytes.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from covid_ct_mask_net.checkpoints import MANIFEST_NAME, file_sha256, read_manifest
from covid_ct_mask_net.errors import OutputError, UntrustedModelError

PACKAGE = "covid_ct_mask_net"
# Parts of the package that lie in folders of their own in the repository, and which the bundle's
# configurations name.
_VENDORED = ("transforms", "training")
_FOLDERS = {"configs": (".json", ".yaml", ".yml", ".conf"), "docs": (".md", ".txt", ".png", ".json", ".csv")}
_TOP_FILES = ("LICENSE", "large_files.yml")
_PACKAGE_SUFFIXES = (".py", ".json", ".typed")
# The earliest date that zip files know.
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644


def bundle_files(root: Path) -> dict[PurePosixPath, Path]:
    """Return the files of an exported bundle: path inside of it to where it is now.

    Parameters
    ----------
    root : Path
        Bundle folder: a checkout's or an exported one.

    Raises
    ------
    UntrustedModelError
        ``BUNDLE_MISSING`` if the folder holds no bundle; ``WEIGHTS_UNLISTED`` if a file in ``models`` is not
        in its manifest, or is another one than was listed.
    """
    if not (root / "configs" / "metadata.json").is_file():
        raise UntrustedModelError(
            "BUNDLE_MISSING", f"There is no configs/metadata.json in {root}; name a bundle folder."
        )
    files = {PurePosixPath(name): root / name for name in _TOP_FILES if (root / name).is_file()}
    for folder, suffixes in _FOLDERS.items():
        files |= _below(root / folder, PurePosixPath(folder), suffixes)
    files |= _listed_weights(root / "models")
    package = root / PACKAGE if (root / PACKAGE).is_dir() else package_folder(PACKAGE)
    files |= _below(package, PurePosixPath(PACKAGE), _PACKAGE_SUFFIXES)
    for part in _VENDORED:
        inside = PurePosixPath(PACKAGE) / part
        if not any(inside in path.parents for path in files):
            files |= _below(package_folder(f"{PACKAGE}.{part}"), inside, _PACKAGE_SUFFIXES)
    return dict(sorted(files.items()))


def bundle_name(root: Path) -> tuple[str, str]:
    """Return the name and the version that the metadata of a bundle states."""
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return str(metadata["name"]), str(metadata["version"])


def manifest(files: Mapping[PurePosixPath, Path]) -> str:
    """Return the hashes of files in the format of ``sha256sum``, sorted by path."""
    return "".join(f"{file_sha256(source)}  {path}\n" for path, source in sorted(files.items()))


def write_archive(root: Path, destination: Path) -> Path:
    """Write ``destination/<name>_v<version>.zip`` and return its path.

    Parameters
    ----------
    root : Path
        Bundle folder.
    destination : Path
        Folder; made if it is not there. An archive of that name is replaced.

    Raises
    ------
    UntrustedModelError
        See `bundle_files`.
    OutputError
        ``OUTPUT_UNWRITABLE``; an earlier archive is still there.
    """
    files = bundle_files(root)
    name, version = bundle_name(root)
    target = destination / f"{name}_v{version}.zip"
    partial = destination / f".{target.name}.partial"
    try:
        destination.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, f"{name}/{MANIFEST_NAME}", manifest(files).encode())
            for path, source in files.items():
                _add(archive, f"{name}/{path}", source.read_bytes())
        partial.replace(target)
    except OSError as error:
        if partial.is_file():
            partial.unlink()
        raise OutputError(
            "OUTPUT_UNWRITABLE",
            f"The archive cannot be written to {str(destination)!r} ({error.strerror}); make room or name "
            "another folder.",
        ) from error
    return target


def copy_bundle(root: Path, folder: Path) -> None:
    """Write the files of `bundle_files` and their manifest into a new folder."""
    files = bundle_files(root)
    for path, source in files.items():
        copy = folder / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    (folder / MANIFEST_NAME).write_text(manifest(files), encoding="utf-8")


def _listed_weights(folder: Path) -> dict[PurePosixPath, Path]:
    """Return the files of ``models``; each must be listed with its hash."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    weights = [path for path in found if path != folder / MANIFEST_NAME]
    listed = read_manifest(folder / MANIFEST_NAME) if (folder / MANIFEST_NAME).is_file() else {}
    for path in weights:
        name = path.relative_to(folder).as_posix()
        if listed.get(name) != file_sha256(path):
            reason = "lists another hash for it" if name in listed else "does not list it"
            raise UntrustedModelError(
                "WEIGHTS_UNLISTED",
                f"models/{name} is in the bundle, but models/{MANIFEST_NAME} {reason}; "
                "restore the released file, list the new one, or remove it.",
            )
    return {PurePosixPath("models") / path.relative_to(folder).as_posix(): path for path in found}


def _below(folder: Path, inside: PurePosixPath, suffixes: tuple[str, ...]) -> dict[PurePosixPath, Path]:
    return {
        inside / path.relative_to(folder).as_posix(): path
        for path in _walk(folder)
        if path.suffix in suffixes
    }


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and "__pycache__" not in path.parts:
            yield path


def package_folder(name: str) -> Path:
    """Return the folder that a package of this project lies in, without importing it.

    Raises
    ------
    UntrustedModelError
        ``BUNDLE_MISSING`` if it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UntrustedModelError(
            "BUNDLE_MISSING",
            f"The package {name} is not installed; export from a "
            "checkout that was installed with pip install -e .",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, on every system
    entry.external_attr = _MODE << 16
    archive.writestr(entry, content)
