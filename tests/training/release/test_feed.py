from __future__ import annotations

import time

import numpy as np
import torch

from covid_ct_mask_net.training.release.feed import Feed, SuppliedBatches
from covid_ct_mask_net.training.synthesis.slice_supply import Ground, SupplySettings

SETTINGS = SupplySettings(pixel_mm=(2.5, 3.5), minimum_area=2)


def test_slices_come_in_batches_of_like_size(ground: Ground) -> None:
    with Feed([ground], SETTINGS, 1, room=40) as feed:
        batches = [feed.batch(4) for _ in range(6)]
        assert feed.drawn >= 24
    sizes = np.array([[image.numel() for image, _ in batch] for batch in batches])
    assert sizes.std(axis=1).mean() < 0.6 * sizes.std()
    for image, target in (one for batch in batches for one in batch):
        assert image.dtype == torch.float32
        assert 0 <= float(image.min()) <= float(image.max()) <= 1
        assert target["masks"].shape[1:] == image.shape[1:]


def test_new_slices_replace_the_oldest(ground: Ground) -> None:
    with Feed([ground], SETTINGS, 2, room=6) as feed:
        for _ in range(12):
            feed.batch(1)
            time.sleep(0.1)
        assert feed.drawn > 6
        assert len(feed._store) == 6


def test_no_more_is_drawn_than_used(ground: Ground) -> None:
    with Feed([ground], SETTINGS, 2, room=6) as feed:
        feed.batch(1)
        time.sleep(1.5)
        assert feed.drawn <= 6 + 6
        before = feed.drawn
        for _ in range(12):
            feed.batch(1)
        time.sleep(0.5)
        assert feed.drawn > before


def test_processes_end_with_the_feed(ground: Ground) -> None:
    with Feed([ground], SETTINGS, 3, processes=2) as feed:
        feed.batch(1)
        processes = list(feed._processes)
        assert all(process.is_alive() for process in processes)
    assert not any(process.is_alive() for process in processes)


def test_batches_are_those_of_a_trainer(ground: Ground) -> None:
    batches = SuppliedBatches([ground], SETTINGS, 4, batch_size=2, batches=3, room=12)
    assert len(batches) == 3
    with batches:
        seeds = []
        for epoch in (1, 2):
            batches.set_epoch(epoch)
            seen = list(batches)
            assert [len(batch) for batch in seen] == [2, 2, 2]
            seeds += [batch[0]["seed"] for batch in seen]
            assert all(float(item["target"]["scale"]) == 1 for batch in seen for item in batch)
        assert batches._feed is not None
        processes = batches._feed._processes
    assert len(set(seeds)) == 6
    assert not any(process.is_alive() for process in processes)
    with batches:
        pass
