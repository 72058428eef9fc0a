"""Slices drawn in processes of their own, so that training never waits for them.

Training takes from a store that the processes renew. If they are slower than training, because the machine
is busy, slices are seen again, mirrored by chance, instead of time being lost.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.training.synthesis.grids import Labels
from covid_ct_mask_net.training.synthesis.slice_supply import (
    Ground,
    Sample,
    SupplySettings,
    draw_slices,
    sample_of,
)

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
        self.drawn = 0
        self._queue: Any = context.Queue(64)
        self._processes = [
            context.Process(
                target=_draw, args=(grounds, settings, seed + 1 + number, self._queue, patience), daemon=True
            )
            for number in range(processes)
        ]

    def __enter__(self) -> Self:
        """Start drawing."""
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
            process.join()

    def batch(self, size: int) -> list[Sample]:
        """Return slices of about the same size; none comes twice before all in the store came.

        A batch is as large as its largest slice: with slices of all sizes a third would be padding.
        """
        if not self._batches:
            self._renew(_ALIKE * size)
            chosen = sorted((self._next() for _ in range(_ALIKE * size)), key=lambda one: one[0].numel())
            batches = [chosen[start : start + size] for start in range(0, len(chosen), size)]
            self._batches = [batches[k] for k in self._rng.permutation(len(batches))]
        return self._batches.pop()

    def _next(self) -> Sample:
        if not self._order:
            self._order = [int(k) for k in self._rng.permutation(len(self._store))]
        image, labels = self._store[self._order.pop()]
        if self._rng.random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        return sample_of(image.astype(np.float32) / 255, labels, self._settings.minimum_area)

    def _renew(self, least: int) -> None:
        """Take what was drawn; wait only while there are fewer slices than asked for."""
        while True:
            try:
                stored = self._queue.get(block=len(self._store) < least)
            except queue.Empty:
                return
            self.drawn += 1
            if len(self._store) < self._room:
                self._order.insert(int(self._rng.integers(len(self._order) + 1)), len(self._store))
                self._store.append(stored)
            else:
                # The oldest goes; its place in the order stays, so that the new one comes this time or next.
                self._store[self.drawn % self._room] = stored


def _draw(grounds: Sequence[Ground], settings: SupplySettings, seed: int, into: Any, patience: int) -> None:
    os.nice(patience)
    for image, labels in draw_slices(grounds, settings, seed):
        into.put((np.rint(image * 255).astype(np.uint8), np.ascontiguousarray(labels)))
