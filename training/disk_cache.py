"""Slices as they are before the first random step, kept on disk: for collections that do not fit in memory.

MONAI's `PersistentDataset` with names that cover more, and files that are whole. Its own names know nothing
of a changed file and, where a setting cannot be hashed, of settings; half a file, left by a run that was
killed, ends all later runs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from monai.data import PersistentDataset
from monai.transforms import Compose

from covid_ct_mask_net import __version__
from covid_ct_mask_net.errors import OutputError, UsageError
from covid_ct_mask_net.training.datasets.records import IMAGE, MASK

_LOGGER = logging.getLogger(__name__)


class DiskCache(PersistentDataset):
    """`monai.data.PersistentDataset` of slices.

    Parameters
    ----------
    data : sequence of dict
    transform : Compose
        Flat; what comes before its first random step is kept.
    folder : path
        Where; several runs may share it, also at the same time. A slice has one file.

    Raises
    ------
    UsageError
        If the folder is a file, or a transform has settings that no name can hold.
    OutputError
        If the folder cannot be made.
    """

    def __init__(self, data: Sequence[Any], transform: Compose, folder: str | Path) -> None:
        path = Path(folder)
        if path.exists() and not path.is_dir():
            raise UsageError("CACHE_DIR", f"cache_dir is {path}, which is a file; name a folder.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                "CACHE_UNWRITTEN", f"The folder {path} could not be made: {error.strerror}."
            ) from error
        self.folder = path
        super().__init__(data, transform, path, hash_func=slice_hash, hash_transform=settings_hash)

    def before_random(self, item: Any) -> Any:
        """Return a slice as it is before the first random step, from the disk where it is there.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        return self._cachecheck(item)

    def _cachecheck(self, item_transformed: Any) -> Any:
        name = hashlib.sha256(self.hash_func(item_transformed) + self.transform_hash.encode()).hexdigest()
        # No folder should hold all slices of a collection.
        path = self.folder / name[:2] / f"{name}.pt"
        kept = read_kept(path)
        if kept is not None:
            return kept
        made = self._pre_transform(deepcopy(item_transformed))  # type: ignore[no-untyped-call]
        write_kept(path, made)
        return made


def slice_hash(record: Mapping[str, Any]) -> bytes:
    """Return a hash over a data dictionary, and size and date of its files: changed files are read again."""
    files = []
    for key in (IMAGE, MASK):
        path = Path(record[key]) if key in record else None
        # What is missing, reading refuses by name.
        if path is not None and path.is_file():
            found = path.stat()
            files.append([key, found.st_size, found.st_mtime_ns])
    return hashlib.sha256(json.dumps([record, files], sort_keys=True).encode()).hexdigest().encode()


def settings_hash(transforms: Sequence[Any]) -> bytes:
    """Return a hash over transforms, in order, with all their settings and the version of this package.

    Raises
    ------
    UsageError
        If a setting is no plain value; the sentence names the transform.
    """
    described = []
    for step in transforms:
        kind = type(step)
        try:
            settings = json.dumps(vars(step), sort_keys=True)
        except TypeError as error:
            raise UsageError(
                "CACHE_SETTINGS",
                f"What {kind.__name__} makes cannot be kept on disk, for its settings are no plain values "
                f"({error}); leave out cache_dir.",
            ) from error
        described.append([kind.__module__, kind.__qualname__, settings])
    return hashlib.sha256(json.dumps([__version__, described]).encode()).hexdigest().encode()


def read_kept(path: Path) -> Any:
    """Return what a file of `write_kept` holds; None where there is none, or half of one."""
    if path.is_file():
        try:
            return torch.load(path, weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError):
            _LOGGER.warning("%s is damaged and is made anew.", path.name)
    return None


def write_kept(path: Path, made: Any) -> None:
    """Write tensors and plain values as a whole file, in a folder that is made.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    # Loader workers and other runs may be at the same slice.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(made, file)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or "the disk may be full"
        raise OutputError(
            "CACHE_UNWRITTEN", f"A slice could not be kept in {path.parent.parent}: {reason}."
        ) from error
