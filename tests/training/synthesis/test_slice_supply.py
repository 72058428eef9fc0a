from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.synthesis.disease import draw_lesions
from covid_ct_mask_net.training.synthesis.phantom import Chest
from covid_ct_mask_net.training.synthesis.slice_supply import (
    FalseFriends,
    Ground,
    Slab,
    SupplySettings,
    _enhanced,
    changed_slice,
    draw_slices,
    plant_slab,
    supply,
)

SETTINGS = SupplySettings(pixel_mm=(2.5, 3.5), minimum_area=2)


@pytest.fixture(scope="module")
def ground(chest: Chest) -> Ground:
    shown = [k for k in range(len(chest.hu)) if np.count_nonzero(chest.lungs[k]) > 200]
    return Ground.of(chest, shown, real=False)


def test_slices_come_with_their_lesions(ground: Ground) -> None:
    samples = list(islice(supply([ground], SETTINGS, 1), 24))
    for image, target in samples:
        assert image.dtype == torch.float32
        assert 0 <= float(image.min()) <= float(image.max()) <= 1
        assert target["masks"].shape[1:] == image.shape[1:]
        assert float(target["scale"]) == 1.0
    assert sum(len(target["boxes"]) > 0 for _, target in samples) > 12
    assert {int(label) for _, target in samples for label in target["labels"]} == {1, 2}


def test_lesions_are_brighter_than_lung(ground: Ground) -> None:
    quiet = replace(SETTINGS, level=(-600.0, -600.0), width=(1500.0, 1500.0), whole_share=0.0)
    inside = [
        float(image[0][target["masks"].amax(0) > 0].mean())
        for image, target in islice(supply([ground], quiet, 2), 24)
        if len(target["masks"])
    ]
    assert np.mean(inside) > 0.4


def test_same_seed_same_slices(ground: Ground) -> None:
    first, second = (next(supply([ground], SETTINGS, 7)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1]["boxes"], second[1]["boxes"])


def test_only_slices_that_may_be_shown_are_shown(chest: Chest) -> None:
    lit = replace(chest, hu=np.where(np.arange(len(chest.hu))[:, None, None] == 20, chest.hu, 3000.0))
    ground = Ground.of(replace(lit, hu=lit.hu.astype(np.float32)), [20], real=True)
    for image, _ in islice(supply([ground], replace(SETTINGS, whole_share=1.0), 3), 3):
        assert float(image.mean()) < 0.9


def test_every_slice_is_shown_as_often_as_asked(ground: Ground) -> None:
    plain = replace(
        SETTINGS, turn=0.0, stretch=0.0, whole_share=1.0, pixel_mm=(3.0, 3.0), picture_share=0.0, views=3
    )
    images = [image.shape for image, _ in islice(draw_slices([ground], plain, 5), 6)]
    assert len(set(images)) == 1
    labels = [labels for _, labels in islice(draw_slices([ground], plain, 5), 6)]
    for first, second in ((0, 1), (1, 2), (3, 4)):
        same = (labels[first] == labels[second]).all()
        mirrored = (labels[first] == labels[second][:, ::-1]).all()
        assert same or mirrored


def test_haze_makes_lungs_denser_and_teaches_nothing(ground: Ground) -> None:
    clear, hazy = (
        plant_slab(ground, [], 8, np.random.default_rng(4), FalseFriends(haze=haze)) for haze in (0.0, 0.3)
    )
    inside = clear.lungs > 0
    raised = (hazy.hu - clear.hu)[inside & (clear.hu < -700)]
    assert 180 < raised.mean() < 320
    assert np.array_equal(hazy.hu[~inside], clear.hu[~inside])
    assert not hazy.labels.any()


def test_a_slab_lies_about_a_lesion(ground: Ground) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        lesions = draw_lesions(SliceClass.COVID_19, ground.map, rng, 0.9)
        slab = plant_slab(ground, lesions, 8, rng)
        assert slab.hu.shape == slab.labels.shape == slab.lungs.shape
        assert len(slab.hu) == 8
        assert len(slab.usable)
        assert slab.shown(slab.usable, rng).shape == slab.hu[slab.usable].shape
    assert slab.labels.any()


@pytest.mark.parametrize("friends", [FalseFriends(domes=True), FalseFriends(masses=True)])
def test_domes_and_masses_take_lung_away_and_carry_no_lesions(ground: Ground, friends: FalseFriends) -> None:
    plain, filled = (
        plant_slab(ground, [], 8, np.random.default_rng(5), one) for one in (FalseFriends(), friends)
    )
    gone = (plain.lungs > 0) & (filled.lungs == 0)
    assert gone.any()
    assert not filled.labels.any()
    assert (filled.hu[gone] > plain.hu[gone]).mean() > 0.95
    lesions = draw_lesions(SliceClass.COVID_19, ground.map, np.random.default_rng(6), 0.9)
    lying = plant_slab(ground, lesions, 8, np.random.default_rng(5), friends)
    assert lying.labels.any()
    assert not lying.labels[lying.lungs == 0].any()


@pytest.mark.parametrize(("share", "friend"), [("dome_share", "domes"), ("mass_share", "masses")])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_false_friends_come_as_often_as_is_asked(share: str, friend: str, value: float) -> None:
    rng = np.random.default_rng(0)
    settings = SupplySettings(**{share: value})
    assert {getattr(FalseFriends.drawn(settings, rng), friend) for _ in range(20)} == {bool(value)}


def test_a_draw_plants_the_false_friends_that_were_drawn(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def planted(*given: Any) -> Slab:
        asked.append(given[-1])
        return plant_slab(*given)

    monkeypatch.setattr("covid_ct_mask_net.training.synthesis.slice_supply.plant_slab", planted)
    settings = SupplySettings(haze_share=1.0, dome_share=1.0, mass_share=1.0)
    list(islice(draw_slices([ground], settings, 3), 13))
    assert asked
    assert all(one.domes and one.masses and 0 < one.haze < settings.haze for one in asked)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match=r"mass_share is .* 0 to 1"):
        SupplySettings(mass_share=share)


def test_contrast_makes_great_vessels_round_and_leaves_lesions(ground: Ground) -> None:
    lesions = draw_lesions(SliceClass.COMMON_PNEUMONIA, ground.map, np.random.default_rng(6), 0.9)
    slab = plant_slab(ground, lesions, 8, np.random.default_rng(5))
    middle = int(np.argmax(np.count_nonzero(slab.labels, axis=(1, 2))))
    labels, lungs = slab.labels[middle], slab.lungs[middle]
    plane = np.where(labels > 0, 0.0, np.where(lungs > 0, -800.0, 40.0)).astype(np.float32)
    gained = np.zeros(plane.shape, dtype=int)
    for seed in range(12):
        shown = _enhanced(plane, labels, lungs, 1.0, slab.grid, np.random.default_rng(seed))
        assert shown.dtype == plane.dtype
        assert (shown[labels > 0] == 0).all()
        gained += shown > 95
    assert labels.any()
    bright = np.argwhere(gained > 0)
    assert len(bright)
    columns = np.flatnonzero((lungs > 0).any(axis=0))
    # Vessels have their middle within 60 mm of that of the body, and a radius of at most 28 mm.
    reach = np.abs(bright[:, 1] - columns[[0, -1]].mean()) * slab.grid.spacing[1]
    assert reach.max() < 60 + 28 + slab.grid.spacing[1]


def test_contrast_brightens_soft_tissue_unevenly_and_leaves_lungs(ground: Ground) -> None:
    still = replace(
        SETTINGS, level=(50.0, 50.0), width=(1000.0, 1000.0), gamma=0.0, picture_share=0.0,
        whole_share=1.0, pixel_mm=(3.0, 3.0), turn=0.0, stretch=0.0,
    )  # fmt: skip
    slab = plant_slab(ground, [], 4, np.random.default_rng(1))
    plane = np.where(slab.lungs[0] > 0, -800.0, 40.0).astype(np.float32)
    shown = [
        changed_slice(
            plane,
            slab.labels[0],
            slab.lungs[0],
            slab.grid,
            replace(still, contrast_share=share),
            np.random.default_rng(seed),
        )[0]
        for share in (0.0, 1.0)
        for seed in range(8)
    ]
    plain, bright = np.stack(shown[:8]), np.stack(shown[8:])
    # 40 HU is 0.49 of this window; six times as much 0.69.
    assert np.quantile(plain, 0.99) < 0.62
    assert np.quantile(bright, 0.99) > np.quantile(plain, 0.99) + 0.02
    assert np.quantile(bright, 0.02) == pytest.approx(np.quantile(plain, 0.02), abs=0.03)
