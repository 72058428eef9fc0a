"""Slices with the class that each shows, for the classifier: drawn into chests, as scans are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.synthesis.disease import draw_lesions
from covid_ct_mask_net.training.synthesis.slice_supply import (
    FalseFriends,
    Ground,
    SupplySettings,
    changed_slice,
    choose_ground,
    plant_slab,
)

# One window, as scans are read (inference.yaml). There are few people behind the chests, none of them scanned
# with contrast medium, so fields of view, proportions and the brightness of soft tissue vary widely.
AS_READ = SupplySettings(
    level=(-600.0, -600.0), width=(1500.0, 1500.0), gamma=0.0, picture_share=0.0, whole_share=0.5,
    margin_mm=60.0, real_share=0.5, turn=0.15, stretch=0.25, haze=0.08,
    contrast_share=0.5, dome_share=0.3, mass_share=0.5,
)  # fmt: skip


@dataclass(frozen=True)
class Draws:
    """What is drawn.

    Attributes
    ----------
    patients, slices
        Patients drawn, classes in turn, and slices taken of each.
    seed
        Of chests, lesions and what slices look like.
    least_lesion_mm2
        Slices with less lesion than this, and not without any, are shown to nobody: what they are is a matter
        of taste.
    supply
        What slices look like, and the share of real chests.
    """

    patients: int = 1080
    slices: int = 4
    seed: int = 20201108
    least_lesion_mm2: float = 80.0
    supply: SupplySettings = field(default_factory=lambda: AS_READ)


def class_slices(grounds: Sequence[Ground], draws: Draws) -> Iterator[tuple[Tensor, int]]:
    """Yield slices (1, H, W) in [0, 1] with the class that each shows.

    Three of four slices of a diseased patient show lesions. Those of its slices that show none are Control.
    """
    rng = np.random.default_rng(draws.seed)
    for number in range(draws.patients):
        slice_class = SliceClass(number % len(SliceClass))
        ground = choose_ground(grounds, draws.supply.real_share, rng)
        lesions = draw_lesions(slice_class, ground.map, rng)
        slab = plant_slab(ground, lesions, draws.supply.slab, rng, FalseFriends.drawn(draws.supply, rng))
        planes = slab.labels[slab.usable]
        area = np.count_nonzero(planes, axis=(1, 2)) * slab.grid.spacing[1] * slab.grid.spacing[2]
        shows = rng.permutation(slab.usable[area >= draws.least_lesion_mm2])
        clear = rng.permutation(slab.usable[area == 0])
        diseased = 0 if slice_class is SliceClass.CONTROL else (3 * draws.slices) // 4
        taken = min(diseased, len(shows))
        chosen = np.array([*shows[:taken], *clear[: draws.slices - taken]], dtype=np.int64)
        if not len(chosen):
            continue
        hu = slab.shown(chosen, rng)
        for index, plane in zip(chosen, hu, strict=True):
            image, _ = changed_slice(
                plane, slab.labels[index], slab.lungs[index], slab.grid, draws.supply, rng
            )
            shown = torch.from_numpy(np.ascontiguousarray(image))[None]
            yield shown, int(slice_class) if index in shows else int(SliceClass.CONTROL)
