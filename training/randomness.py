"""Randomness of training as a function of seed, epoch and slice.

Order, augmentation and the sampling of regions are drawn anew from (seed, epoch, slice) instead of from one
long stream. So a resumed run goes on exactly as if it had not stopped, the number of loader workers does not
matter, and a slice is treated alike whichever process gets it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset
from monai.transforms import Compose, RandomizableTrait, Transform

from covid_ct_mask_net.training.disk_cache import DiskCache

SEED = "seed"
_SEEDS = 2**32


def seed_of(*numbers: int) -> int:
    """Return a seed in 0 to 2^32 - 1 that depends on all numbers, and in no simple way."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return int.from_bytes(digest[:4], "little") % _SEEDS


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch on all devices."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries draw from it
    torch.manual_seed(seed)


class FromHereAnew(Transform, RandomizableTrait):
    """Do nothing, but keep MONAI's data sets from caching what follows.

    Instance masks are many times larger than the label image they come from.
    """

    def __call__(self, data: Any) -> Any:
        """Return the data."""
        return data


class SeededDataset(CacheDataset):
    """`monai.data.CacheDataset` whose random transforms are seeded by epoch and slice.

    Items get their seed under ``seed``, for what the network draws.

    Parameters
    ----------
    data : sequence of dict
    transform : Compose
        Flat: nested compositions would be cached with their random steps. `flat` makes one.
    seed : int
    cache_rate : float
        Share of slices that is kept in memory once it was read.
    progress : bool
        Whether to show a bar while slices are read.
    cache_dir : path, optional
        Folder in which all slices are kept (`disk_cache.DiskCache`). Items are the same with and without.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Compose,
        seed: int,
        cache_rate: float = 1.0,
        progress: bool = False,
        cache_dir: str | Path | None = None,
    ) -> None:
        # First, for memory is filled from it.
        self.disk = None if cache_dir is None else DiskCache(data, transform, cache_dir)
        super().__init__(data, transform, cache_rate=cache_rate, progress=progress)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, before its loader starts."""
        self.epoch = epoch

    def _transform(self, index: int) -> Any:
        seed = seed_of(self.seed, self.epoch, index)
        self.transform.set_random_state(seed)
        in_memory = index % len(self) < self.cache_num
        item = super()._transform(index) if self.disk is None or in_memory else self.disk[index]
        return {**item, SEED: seed}

    def _load_cache_item(self, idx: int) -> Any:
        if self.disk is None:
            return super()._load_cache_item(idx)
        return self.disk.before_random(self.data[idx])


def flat(transforms: Sequence[Any]) -> Compose:
    """Return one composition of transforms and of the parts of compositions among them."""
    composed: Compose = Compose(list(transforms)).flatten()  # type: ignore[no-untyped-call]
    return composed


class KnowsEpoch(Protocol):
    """A data set whose items depend on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, before its loader starts."""


class EpochSeeds:
    """Start every epoch of a trainer from its own seeds.

    Parameters
    ----------
    seed : int
    dataset : KnowsEpoch, optional
        Is told the epoch.
    rank : int
        Process; global generators differ between processes.
    """

    def __init__(self, seed: int, dataset: KnowsEpoch | None = None, rank: int = 0) -> None:
        self.seed = seed
        self.dataset = dataset
        self.rank = rank

    def attach(self, engine: Engine) -> None:
        """Act when an epoch starts."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed the generators and the data set."""
        seed_everything(seed_of(self.seed, engine.state.epoch, self.rank))
        if self.dataset is not None:
            self.dataset.set_epoch(engine.state.epoch)
