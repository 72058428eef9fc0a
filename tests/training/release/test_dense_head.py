from __future__ import annotations

import torch

from covid_ct_mask_net.training.release.dense_head import DenseHead, dense_loss


def _target(height: int, width: int) -> dict[str, torch.Tensor]:
    mask = torch.zeros(1, height, width, dtype=torch.uint8)
    mask[0, 8:24, 4:20] = 1
    return {"labels": torch.tensor([2]), "masks": mask}


def test_head_predicts_at_a_quarter() -> None:
    assert DenseHead()(torch.zeros(2, 256, 3, 5)).shape == (2, 2, 12, 20)


def test_loss_is_small_only_for_the_right_class_and_place() -> None:
    right = torch.full((1, 2, 8, 8), -20.0)
    right[0, 1, 2:6, 1:5] = 20.0
    target = [_target(30, 31)]
    assert float(dense_loss(right, target)) < 0.05
    assert float(dense_loss(right.flip(1), target)) > 1
    assert float(dense_loss(right.roll(3, dims=-1), target)) > 1


def test_slices_without_lesions_want_nothing() -> None:
    empty = [{"labels": torch.zeros(0, dtype=torch.int64), "masks": torch.zeros(0, 32, 32)}]
    assert float(dense_loss(torch.full((1, 2, 8, 8), -20.0), empty)) < 0.05
    assert float(dense_loss(torch.full((1, 2, 8, 8), 5.0), empty)) > 1
