"""Randomness follows from seed, epoch and slice."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.transforms import Compose, MapTransform, RandomizableTransform

from covid_ct_mask_net.training.randomness import (
    SEED,
    EpochSeeds,
    FromHereAnew,
    SeededDataset,
    flat,
    seed_everything,
    seed_of,
)


class Noise(RandomizableTransform, MapTransform):
    def __init__(self) -> None:
        RandomizableTransform.__init__(self, 1.0)

    def __call__(self, data: Any) -> Any:
        return {**data, "noise": self.R.uniform()}


class Count(MapTransform):
    def __init__(self) -> None:
        super().__init__(keys="calls")
        self.calls = 0

    def __call__(self, data: Any) -> Any:
        self.calls += 1
        return {**data, "calls": self.calls}


def test_seeds_differ_and_repeat() -> None:
    assert seed_of(1, 2, 3) == seed_of(1, 2, 3)
    assert len({seed_of(1, epoch, index) for epoch in range(20) for index in range(20)}) == 400


def test_an_item_depends_on_epoch_and_index_alone() -> None:
    rows = [{"number": index} for index in range(3)]
    first, second = (SeededDataset(rows, flat([Noise()]), seed=5) for _ in range(2))
    for dataset in (first, second):
        dataset.set_epoch(2)
    backwards = {index: second[index] for index in (2, 1, 0)}
    for index in range(3):
        assert first[index] == backwards[index]
    noises = [first[index]["noise"] for index in range(3)]
    first.set_epoch(3)
    assert len({*noises, *(first[index]["noise"] for index in range(3))}) == 6
    assert first[0][SEED] == seed_of(5, 3, 0)


def test_nested_random_steps_are_not_cached() -> None:
    count = Count()
    dataset = SeededDataset([{}], flat([count, Compose([Noise()])]), seed=0)
    noises = set()
    for epoch in range(3):
        dataset.set_epoch(epoch)
        noises.add(dataset[0]["noise"])
    assert len(noises) == 3
    assert count.calls == 1, "what comes before the random step is read once"


def test_steps_after_the_mark_are_done_anew() -> None:
    before, after = Count(), Count()
    dataset = SeededDataset([{}], flat([before, FromHereAnew(), after]), seed=0)
    for _ in range(3):
        dataset[0]
    assert (before.calls, after.calls) == (1, 3)


def test_epochs_start_from_their_own_seeds() -> None:
    drawn = []

    def draw(engine: Engine, batch: Any) -> None:
        drawn.append((engine.state.epoch, torch.rand(1).item(), float(np.random.random())))  # noqa: NPY002

    dataset = SeededDataset([{}], flat([Noise()]), seed=1)
    for _ in range(2):
        engine = Engine(draw)
        EpochSeeds(1, dataset).attach(engine)
        seed_everything(len(drawn))
        engine.run([0], max_epochs=2)
    assert drawn[:2] == drawn[2:]
    assert drawn[0][1:] != drawn[1][1:]
    assert dataset.epoch == 2
