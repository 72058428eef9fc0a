"""What both networks compute for a slice before they part: features, proposals, box head outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from covid_ct_mask_net.networks.slice_transform import SCALE, SliceTransform


@dataclass(frozen=True, eq=False)
class Regions:
    """Trunk outputs of one pass over slices of one shape.

    Attributes
    ----------
    features
        FPN maps by level name, each (B, 256, h, w).
    proposals
        One (P, 4) tensor of boxes a slice, in pixels of the resized slice.
    class_logits
        (sum of P, classes with background): box head scores before softmax.
    box_regression
        (sum of P, classes * 4): encoded box deltas.
    image_sizes
        Sizes of the resized slices.
    original_sizes
        Sizes of the slices as given.
    """

    features: dict[str, Tensor]
    proposals: list[Tensor]
    class_logits: Tensor
    box_regression: Tensor
    image_sizes: list[tuple[int, int]]
    original_sizes: list[tuple[int, int]]


def compute_regions(
    network: GeneralizedRCNN, slices: Sequence[Tensor], scales: Sequence[float] | None = None
) -> Regions:
    """Run transform, backbone, FPN, RPN and box head of a network in test mode on slices (1, H, W).

    ``scales`` says for crops by which factor each is resized: that of the slice it was cut from.
    """
    original_sizes = [(int(s.shape[-2]), int(s.shape[-1])) for s in slices]
    given = None if scales is None else [{SCALE: torch.tensor(s, dtype=torch.float64)} for s in scales]
    images, _ = network.transform(list(slices), given)
    features = network.backbone(images.tensors)
    proposals, _ = network.rpn(images, features)
    class_logits, box_regression = box_outputs(network, features, proposals, images.image_sizes)
    return Regions(features, proposals, class_logits, box_regression, images.image_sizes, original_sizes)


def box_outputs(
    network: GeneralizedRCNN,
    features: dict[str, Tensor],
    proposals: list[Tensor],
    image_sizes: list[tuple[int, int]],
) -> tuple[Tensor, Tensor]:
    """Return class logits and encoded box deltas of the box head for these proposals."""
    heads = network.roi_heads
    pooled = heads.box_roi_pool(features, proposals, image_sizes)
    class_logits, box_regression = heads.box_predictor(heads.box_head(pooled))
    return class_logits, box_regression


def passes(
    transform: SliceTransform, slices: Tensor | Sequence[Tensor], scales: Sequence[float] | None = None
) -> Iterator[list[int]]:
    """Yield indices of slices that go through the network together.

    Padding a slice to the size of a larger neighbour changes its features at the border, and convolutions
    over different batch sizes round differently, which is enough to swap ranks of regions. So slices share
    a pass only where they have the same resized shape, and on a CPU, where batching gains nothing, each has
    its own: its result cannot depend on its neighbours.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    factors = [None] * len(slices) if scales is None else list(scales)
    for index, (image, factor) in enumerate(zip(slices, factors, strict=True)):
        height, width = image.shape[-2:]
        groups.setdefault(transform.resized_shape(height, width, factor), []).append(index)
    for group in groups.values():
        if slices[group[0]].device.type == "cpu":
            yield from ([index] for index in group)
        else:
            yield group


def scales_of(group: Sequence[int], scales: Sequence[float] | None) -> list[float] | None:
    """Return the scales of the slices of one pass, None where whole slices are read."""
    return None if scales is None else [scales[index] for index in group]
