"""Small networks for tests: one FPN level, few proposals, slices of 64 pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from covid_ct_mask_net.checkpoints import Model, ModelCard, untrained_model
from covid_ct_mask_net.networks.settings import (
    ClassifierSettings,
    DetectorSettings,
    light_classifier_settings,
    light_detector_settings,
)

CARD = ModelCard(name="small", version="0", trained_on="nothing", notice="a test")


def small_trunk(**changes: Any) -> DetectorSettings:
    """ResNet18 cut after its second stage, 60 proposals."""
    small = {"truncation": 2, "image_min_size": 64, "image_max_size": 128, "rpn_top_testing": 60}
    return light_detector_settings(**(small | {"rpn_top_training": 60} | changes))


def small_s(**changes: Any) -> ClassifierSettings:
    """S that reads 16 regions."""
    return light_classifier_settings(**({"regions": 16, "features": 8} | changes))


def small_model(seed: int = 1, **changes: Any) -> Model:
    """Both networks with equal random trunks."""
    return untrained_model(small_trunk(**changes), small_s(), seed)


def random_slices(*shapes: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """Slices (1, H, W) in [0, 1] with structure at several scales."""
    generator = torch.Generator().manual_seed(seed)
    slices = []
    for height, width in shapes:
        coarse = torch.rand(1, 1, 6, 5, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
        slices.append(0.8 * smooth + 0.2 * torch.rand(1, height, width, generator=generator))
    return slices
