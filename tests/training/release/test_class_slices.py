from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from covid_ct_mask_net.training.release.class_slices import AS_READ, Draws, class_slices
from covid_ct_mask_net.training.synthesis.slice_supply import Ground, Slab, choose_ground, plant_slab


def test_slices_of_all_classes_are_drawn_in_the_window_of_inference(ground: Ground) -> None:
    drawn = list(class_slices([ground], Draws(9, 4)))
    assert set(Counter(slice_class for _, slice_class in drawn)) == {0, 1, 2}
    for image, _ in drawn:
        assert image.shape[0] == 1
        assert min(image.shape[1:]) >= 64
        assert float(image.min()) >= 0.0
        assert float(image.max()) <= 1.0


def test_the_same_seed_draws_the_same(ground: Ground) -> None:
    first, second, other = (list(class_slices([ground], Draws(4, 3, seed))) for seed in (1, 1, 2))
    assert [c for _, c in first] == [c for _, c in second]
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for (a, _), (b, _) in zip(first, other, strict=False))


def test_slices_with_hardly_any_lesion_are_left_out(ground: Ground) -> None:
    strict = dataclasses.replace(Draws(9, 4), least_lesion_mm2=1e9)
    assert {slice_class for _, slice_class in class_slices([ground], strict)} == {0}


def test_half_of_the_slices_are_from_real_chests(ground: Ground) -> None:
    rng = np.random.default_rng(0)
    grounds = [*[ground] * 30, dataclasses.replace(ground, real=True)]
    real = sum(choose_ground(grounds, AS_READ.real_share, rng).real for _ in range(400))
    assert 160 < real < 240
    assert not choose_ground([ground], 1.0, rng).real, "phantoms, where nothing else is there"
    assert choose_ground(grounds[-1:], 0.0, rng).real


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_masses_lie_in_as_many_patients_as_is_asked(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    asked = []

    def planted(*given: Any) -> Slab:
        asked.append(given[-1].masses)
        return plant_slab(*given)

    monkeypatch.setattr("covid_ct_mask_net.training.release.class_slices.plant_slab", planted)
    list(class_slices([ground], Draws(4, 2, supply=dataclasses.replace(AS_READ, mass_share=share))))
    assert asked == [bool(share)] * 4
