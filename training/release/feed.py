"""Slices drawn in processes of their own, so that training never waits for them.

Training takes from a store that the processes renew. If they are slower than training, because the machine
is busy, slices are seen again, mirrored by chance, instead of time being lost.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.training.datasets.records import IMAGE
from covid_ct_mask_net.training.randomness import SEED, seed_of
from covid_ct_mask_net.training.synthesis.grids import Labels
from covid_ct_mask_net.training.synthesis.slice_supply import (
    Ground,
    Sample,
    SupplySettings,
    draw_slices,
    sample_of,
)
from covid_ct_mask_net.training.targets import TARGET

Stored = tuple[NDArray[np.uint8], Labels]
# Slices are put in order of size over this many batches.
_ALIKE = 6


class Feed:
    """A store of slices, renewed in the background; a context manager.

    Parameters
    ----------
    grounds : sequence of Ground
        Shared with the processes, not copied.
    settings : SupplySettings
    seed : int
    processes : int
        How many draw.
    room : int
        Slices that the store holds.
    patience : int
        How much lower the priority of the drawing processes is (``nice``).
    """

    def __init__(
        self,
        grounds: Sequence[Ground],
        settings: SupplySettings,
        seed: int,
        processes: int = 1,
        room: int = 800,
        patience: int = 10,
    ) -> None:
        context = multiprocessing.get_context("fork")
        self._settings = settings
        self._rng = np.random.default_rng([seed, 0])
        self._room = room
        self._store: list[Stored] = []
        self._order: list[int] = []
        self._batches: list[list[Sample]] = []
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self.drawn, self._used = 0, 0
        self._queue: Any = context.Queue(64)
        self._over = context.Event()
        self._processes = [
            context.Process(
                target=_draw,
                args=(grounds, settings, seed + 1 + number, self._queue, self._over, patience),
                daemon=True,
            )
            for number in range(processes)
        ]
        # A pipe holds less than one slice: only somebody who always listens gets them as they are drawn.
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        """Start drawing."""
        for process in self._processes:
            process.start()
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        # They are not killed: a process killed as it writes leaves the queue locked.
        self._over.set()
        with self._arrived:
            self._arrived.notify_all()
        for process in self._processes:
            process.join()
        self._queue.put(None)
        self._listener.join()

    def batch(self, size: int) -> list[Sample]:
        """Return slices of about the same size; none comes twice before all in the store came.

        A batch is as large as its largest slice: with slices of all sizes a third would be padding.
        """
        if not self._batches:
            with self._arrived:
                self._arrived.wait_for(lambda: len(self._store) >= min(self._room, _ALIKE * size))
                stored = [self._next() for _ in range(_ALIKE * size)]
                self._used += len(stored)
                self._arrived.notify_all()
            chosen = sorted((self._sample(*one) for one in stored), key=lambda one: one[0].numel())
            batches = [chosen[start : start + size] for start in range(0, len(chosen), size)]
            self._batches = [batches[k] for k in self._rng.permutation(len(batches))]
        return self._batches.pop()

    def _next(self) -> Stored:
        if not self._order:
            self._order = [int(k) for k in self._rng.permutation(len(self._store))]
        return self._store[self._order.pop()]

    def _sample(self, image: NDArray[np.uint8], labels: Labels) -> Sample:
        if self._rng.random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        shown = image.astype(np.float32) / np.float32(255)
        return sample_of(shown, labels, self._settings.minimum_area)

    def _listen(self) -> None:
        """Put slices into the store as they come, until None comes; no more than training uses."""
        for stored in iter(self._queue.get, None):
            with self._arrived:
                if len(self._store) < self._room:
                    self._order.insert(int(self._rng.integers(len(self._order) + 1)), len(self._store))
                    self._store.append(stored)
                else:
                    # The oldest goes; the new one takes its turn, if it still has one.
                    self._store[self.drawn % self._room] = stored
                self.drawn += 1
                self._arrived.notify_all()
                self._arrived.wait_for(lambda: self.drawn < self._room + self._used or self._over.is_set())


class SuppliedBatches:
    """Batches of a feed as the bundle's trainer takes them; a context manager that ends the feed.

    What is drawn follows from seed, process and the epoch that the feed begins in; which of it is seen when,
    and how often, depends on how fast it is drawn, so that a run cannot be repeated to the bit.

    Parameters
    ----------
    grounds : sequence of Ground
    settings : SupplySettings
    seed : int
    batch_size : int
    batches : int
        Of an epoch.
    rank : int
        Number of this process, where several train.
    processes, room : int
        As in `Feed`.
    """

    def __init__(
        self,
        grounds: Sequence[Ground],
        settings: SupplySettings,
        seed: int,
        *,
        batch_size: int,
        batches: int,
        rank: int = 0,
        processes: int = 1,
        room: int = 800,
    ) -> None:
        self._grounds, self._settings = grounds, settings
        self._seed, self._rank, self._epoch = seed, rank, 0
        self._size, self._batches = batch_size, batches
        self._processes, self._room = processes, room
        self._feed: Feed | None = None

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return self._batches

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the batches of an epoch; the first of all starts the feed."""
        if self._feed is None:
            seed = seed_of(self._seed, self._rank, self._epoch)
            self._feed = Feed(self._grounds, self._settings, seed, self._processes, self._room).__enter__()
        for number in range(self._batches):
            seed = seed_of(self._seed, self._rank, self._epoch, number)
            yield [
                {IMAGE: image, TARGET: target, SEED: seed} for image, target in self._feed.batch(self._size)
            ]

    def __enter__(self) -> Self:
        """Return the batches; nothing is drawn yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the feed."""
        if self._feed is not None:
            self._feed.__exit__(kind, error, trace)
            self._feed = None


def _draw(
    grounds: Sequence[Ground], settings: SupplySettings, seed: int, into: Any, over: Any, patience: int
) -> None:
    os.nice(patience)
    for image, labels in draw_slices(grounds, settings, seed):
        into.put((np.rint(image * 255).astype(np.uint8), np.ascontiguousarray(labels)))
        if over.is_set():
            return
