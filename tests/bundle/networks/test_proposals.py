"""Proposals are ranked by their logits, also where a sigmoid could not tell them apart."""

from __future__ import annotations

import torch
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork

from builders.networks import random_slices, small_model
from covid_ct_mask_net.networks.proposals import LogitRankedProposals
from covid_ct_mask_net.networks.regions import compute_regions


def _select(network: FasterRCNN, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # Boxes side by side, so that nothing is suppressed.
    left = torch.arange(len(logits)) * 4.0
    boxes = torch.stack([left, left * 0, left + 3, left * 0 + 3], 1)[None]
    size = [(8, 4 * len(logits))]
    (kept,), (scores,) = network.rpn.filter_proposals(boxes, logits[:, None], size, [len(logits)])
    return kept[:, 0] / 4, scores


def test_both_networks_have_it() -> None:
    model = small_model()
    for network in (model.detector, model.classifier):
        assert network is not None
        assert isinstance(network.rpn, LogitRankedProposals)
        assert network.rpn.min_size == 0


def test_logits_beyond_a_float32_sigmoid_keep_their_order() -> None:
    network = small_model().detector
    assert network is not None
    logits = torch.tensor([18.0, 25.0, 17.5, 30.0, -2.0, 22.0])
    assert len(torch.sigmoid(logits).unique()) == 2
    order, scores = _select(network, logits)
    assert order.tolist() == [3, 1, 5, 0, 2, 4]
    assert scores.tolist() == logits.sort(descending=True).values.tolist()


@torch.no_grad()
def test_elsewhere_it_is_torchvisions_selection() -> None:
    network = small_model().detector
    assert network is not None
    image = random_slices((64, 80))
    ours = compute_regions(network, image).proposals[0]
    network.rpn.__class__ = RegionProposalNetwork
    assert torch.equal(compute_regions(network, image).proposals[0], ours)
