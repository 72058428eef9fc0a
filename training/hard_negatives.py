"""Region sampling that does not leave false friends to chance (after Shrivastava et al. 2016, CVPR: OHEM)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.networks.detector import LesionDetector


class HardNegativeSampler(BalancedPositiveNegativeSampler):
    """torchvision's sampler of a slice's regions, with a share of the negatives taken from the first.

    The RPN hands proposals over from the most to the least like a lesion. Of a few hundred, one or two lie on
    what is taken for one; drawn evenly, they are hardly ever seen.

    Parameters
    ----------
    batch_size_per_image, positive_fraction
        As in torchvision.
    hard_share : float
        Share of the negatives that are the highest ranked ones, 0 to 1; the others are drawn evenly.

    Raises
    ------
    UsageError
        If the share lies outside.
    """

    def __init__(self, batch_size_per_image: int, positive_fraction: float, hard_share: float) -> None:
        super().__init__(batch_size_per_image, positive_fraction)
        if not 0.0 <= hard_share <= 1.0:
            raise UsageError("SETTING", f"hard_negatives is {hard_share}, but must lie in 0 to 1.")
        self.hard_share = hard_share

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return masks of the positive and the negative regions of each slice."""
        positives, negatives = super().__call__(matched_idxs)
        return positives, [self._harder(*one) for one in zip(matched_idxs, negatives, strict=True)]

    def _harder(self, matched: Tensor, drawn: Tensor) -> Tensor:
        """Return the mask of as many negatives as were drawn, some of them in exchange for the first."""
        even = drawn.nonzero().flatten()
        hard = torch.where(matched == 0)[0][: round(self.hard_share * len(even))]
        others = even[~torch.isin(even, hard)]
        others = others[torch.randperm(len(others), device=others.device)][: len(even) - len(hard)]
        chosen = torch.zeros_like(drawn)
        chosen[torch.cat([hard, others])] = 1
        return chosen


def sample_hard_negatives(detector: LesionDetector, share: float) -> None:
    """Let the box head of a detector learn from a share of hard negatives; 0 leaves torchvision's sampler."""
    heads = detector.roi_heads
    if share:
        sampler = heads.fg_bg_sampler
        heads.fg_bg_sampler = HardNegativeSampler(
            sampler.batch_size_per_image, sampler.positive_fraction, share
        )
