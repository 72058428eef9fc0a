"""Hard negatives: the first are taken, the number stays, the rest is drawn."""

from __future__ import annotations

import pytest
import torch

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import light_detector_settings
from covid_ct_mask_net.training.hard_negatives import HardNegativeSampler, sample_hard_negatives

# 40 regions: two positives, one that counts as neither, and negatives from the third on.
MATCHED = torch.tensor([1, -1, *[0] * 37, 2])


@pytest.mark.parametrize(("share", "hard"), [(0.0, 0), (0.5, 7), (1.0, 14)])
def test_share_of_negatives_is_the_highest_ranked(share, hard):
    torch.manual_seed(0)
    positive, negative = HardNegativeSampler(16, 0.5, share)([MATCHED, MATCHED])
    for chosen, others in zip(positive, negative, strict=True):
        assert chosen.nonzero().flatten().tolist() == [0, 39]
        assert int(others.sum()) == 14
        assert others[2 : 2 + hard].all()
        assert (MATCHED[others.bool()] == 0).all()
    if share < 1:
        assert not torch.equal(negative[0], negative[1]), "the others are drawn"


def test_fewer_negatives_than_wanted_are_all_taken():
    (_,), (negative,) = HardNegativeSampler(16, 0.5, 0.5)([torch.tensor([1, 0, 0, 0])])
    assert negative.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_share_outside_is_refused(share):
    with pytest.raises(UsageError, match=r"hard_negatives is .* 0 to 1"):
        HardNegativeSampler(16, 0.5, share)


def test_detector_keeps_its_numbers_and_without_a_share_its_sampler():
    detector = LesionDetector(light_detector_settings(roi_batch=24, roi_positive_fraction=0.25))
    before = detector.roi_heads.fg_bg_sampler
    sample_hard_negatives(detector, 0.0)
    assert detector.roi_heads.fg_bg_sampler is before
    sample_hard_negatives(detector, 0.5)
    sampler = detector.roi_heads.fg_bg_sampler
    assert (sampler.batch_size_per_image, sampler.positive_fraction, sampler.hard_share) == (24, 0.25, 0.5)
