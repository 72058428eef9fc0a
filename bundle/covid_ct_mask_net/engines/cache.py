"""Graphs of the networks kept on disk, so that they are built or calibrated once a machine.

A graph lies under a key of all it depends on: weights, settings, precision, versions, and the code that
builds it. Beside it lies a list of the SHA-256 of its files, written last: a graph that a failing disk or a
power cut has altered would compute other numbers, and nobody would see it. Where nothing can be written, as
in a read-only container without a home, graphs are built in memory each time.

Processes share a folder without locks: files come by renaming, their hashes last, and who misses a file
builds the graph again. Whenever a graph is stored, those that were not used for long are removed: each
version of weights, packages and code has graphs of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import openvino as ov
from torch import nn

from covid_ct_mask_net import __version__
from covid_ct_mask_net.checkpoints import file_sha256, read_manifest
from covid_ct_mask_net.engines.runtime import CORE
from covid_ct_mask_net.result_set import flush_file

_log = logging.getLogger(__name__)
_FOLDER = "covid-ct-mask-net"
_MODE = 0o700
_PARTIAL = ".partial-"
# Writing takes seconds; what is as old as this was left by a process that was killed.
_STALE_SECONDS = 3600.0
# A graph stays for so long without use, and of those used last as many bytes stay.
_UNUSED_SECONDS = 30 * 24 * 3600.0
_KEPT_BYTES = 4 * 1024**3
_KEY = re.compile(r"[0-9a-f]{64}")
# Torch's arithmetic makes graphs of torchvision's networks; those of int8 are calibrated by the others.
_PACKAGES = ("openvino", "torch", "torchvision", "numpy", "nncf", "scipy", "numba")
# Modules of this package that a graph's numbers follow from.
GRAPH_CODE = ("calibration", "graph", "kernels", "post", "programs")


class GraphCache:
    """Graphs by key in a folder of the user.

    Parameters
    ----------
    folder : Path, optional
        Where graphs are kept; without it they are not.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def graph(self, key: str, build: Callable[[], ov.Model]) -> ov.Model:
        """Return the graph of a key: from disk if it is there as it was written, or else built and kept."""
        if self.folder is None:
            return build()
        path = self.folder / f"{key}.xml"
        if _listing(path).is_file():
            # When it was last used, for those who forget graphs; where nothing can be written, nobody does.
            with contextlib.suppress(OSError):
                os.utime(_listing(path))
            try:
                _check(path)
                return CORE.read_model(path)
            except (OSError, ValueError, RuntimeError) as error:
                # What another process has just forgotten is not damaged.
                whole = all(file.is_file() for file in (*_files(path), _listing(path)))
                _log.log(
                    logging.WARNING if whole else logging.DEBUG,
                    "The cached graph %s is not as it was written (%s); it is built again.",
                    key[:12], str(error) if isinstance(error, ValueError) else type(error).__name__,
                )  # fmt: skip
        model = build()
        self._keep(model, path)
        return model

    def _keep(self, model: ov.Model, path: Path) -> None:
        """Write a graph whole or not at all; without the list of its hashes nobody reads it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=_MODE)
            _clean(path.parent)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=_PARTIAL) as folder:
                written = Path(folder) / path.name
                ov.save_model(model, written, compress_to_fp16=False)
                files = _files(written)
                listing = _listing(written)
                listing.write_text(
                    "".join(f"{file_sha256(file)}  {file.name}\n" for file in files), encoding="utf-8"
                )
                for file in (*files, listing):
                    flush_file(file)
                # While the files of an altered graph are replaced, nobody takes a mixture of both.
                _listing(path).unlink(missing_ok=True)
                for file in (*files, listing):
                    file.replace(path.parent / file.name)
            flush_file(path.parent)
            _forget(path)
        except (OSError, RuntimeError) as error:
            _log.info("Graphs are not kept on disk: %s.", error)


def _files(path: Path) -> tuple[Path, Path]:
    """Return the weights and the description of a graph."""
    return path.with_suffix(".bin"), path


def _listing(path: Path) -> Path:
    """Return where the hashes of a graph's files are, in the format of ``sha256sum``."""
    return path.with_suffix(".sha256")


def _check(path: Path) -> None:
    """Raise ValueError if a file of a graph is not the one that was listed."""
    listed = read_manifest(_listing(path))
    for file in _files(path):
        if listed.get(file.name) != file_sha256(file):
            raise ValueError(f"{file.suffix} has another SHA-256 than was listed")


def _clean(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote."""
    for partial in folder.glob(f"{_PARTIAL}*"):
        # Another process may be removing it too.
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(partial)


def _forget(stored: Path) -> None:
    """Remove graphs beside the one just stored that were not used for long or are beyond the bytes kept."""
    room, now = _KEPT_BYTES, time.time()
    for used, size, path in sorted(_graphs(stored.parent), reverse=True):
        room -= size
        if path == stored or (room >= 0 and now - used <= _UNUSED_SECONDS):
            continue
        # Who has read it keeps what it mapped. The hashes last: what is left half is found again.
        with contextlib.suppress(OSError):
            for file in (*_files(path), _listing(path)):
                file.unlink(missing_ok=True)
            _log.info("The cached graph %s was not used for long; it is removed.", path.stem[:12])


def _graphs(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield when each graph was last used, its bytes and its path; what is not ours is left out.

    A graph of ours has a key for its name and a list of hashes that names its two files alone.
    """
    for listing in folder.glob("*.sha256"):
        path = listing.with_suffix(".xml")
        # Another process may be removing or replacing it.
        with contextlib.suppress(OSError, ValueError):
            if _KEY.fullmatch(path.stem) and set(read_manifest(listing)) == {f.name for f in _files(path)}:
                size = sum(file.stat().st_size for file in _files(path) if file.is_file())
                yield listing.stat().st_mtime, size, path


def cache_folder(setting: str | None) -> Path | None:
    """Return the folder for compiled graphs, or None if there is none that can be written.

    Parameters
    ----------
    setting : str, optional
        A folder, ``"none"`` for no cache, or nothing for the user's cache folder (XDG_CACHE_HOME, or
        .cache in the home).
    """
    if setting == "none":
        return None
    if setting:
        return Path(setting)
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if base else None
    if folder is None:
        with contextlib.suppress(RuntimeError):
            folder = Path.home() / ".cache"
    if folder is None or not folder.is_absolute():
        return None
    existing = next((p for p in (folder, *folder.parents) if p.exists()), None)
    if existing is None or not os.access(existing, os.W_OK | os.X_OK):
        return None
    return folder / _FOLDER


def network_key(network: nn.Module, *parts: str) -> str:
    """Return a key of a network's weights, of versions, code and further parts, as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in (__version__, *_versions(), _code_sha256(), *parts):
        digest.update(f"{part}\n".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


@cache
def _versions() -> tuple[str, ...]:
    """Return the versions of the packages that graphs are made with."""
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} missing")
    return tuple(found)


@cache
def _code_sha256() -> str:
    """Return the SHA-256 of the source of the modules that make graphs."""
    digest = hashlib.sha256()
    for name in GRAPH_CODE:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()
