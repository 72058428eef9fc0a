"""Graphs of the networks kept on disk, so that they are built or calibrated once a machine.

A graph lies under a key of all it depends on: weights, settings, precision, versions. Where nothing can
be written, as in a read-only container without a home, graphs are built in memory each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import openvino as ov
from torch import nn

from covid_ct_mask_net import __version__

_log = logging.getLogger(__name__)
_FOLDER = "covid-ct-mask-net"
_MODE = 0o700


class GraphCache:
    """Graphs by key in a folder of the user.

    Parameters
    ----------
    folder : Path, optional
        Where graphs are kept; without it they are not.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def graph(self, key: str, build: Callable[[], ov.Model], core: ov.Core) -> ov.Model:
        """Return the graph of a key: from disk if it is there and whole, or else built and kept."""
        if self.folder is None:
            return build()
        path = self.folder / f"{key}.xml"
        if path.is_file() and path.with_suffix(".bin").is_file():
            try:
                return core.read_model(path)
            except RuntimeError:
                _log.warning("The cached graph %s cannot be read; it is built again.", key[:12])
        model = build()
        self._keep(model, path)
        return model

    def _keep(self, model: ov.Model, path: Path) -> None:
        """Write a graph whole or not at all; a reader never sees one without its weights."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=_MODE)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as folder:
                written = Path(folder) / path.name
                ov.save_model(model, written, compress_to_fp16=False)
                written.with_suffix(".bin").replace(path.with_suffix(".bin"))
                written.replace(path)
        except (OSError, RuntimeError) as error:
            _log.info("Graphs are not kept on disk: %s.", error)


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
    """Return a key of a network's weights, the versions at work and further parts, as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in (__version__, ov.__version__, *parts):
        digest.update(f"{part}\n".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()
