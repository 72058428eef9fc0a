from __future__ import annotations

import pytest
import torch

from covid_ct_mask_net.finite import all_finite


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 511, 1000])
def test_one_element_is_found(wrong: float, place: int) -> None:
    tensor = torch.linspace(-1, 1, 1001)
    assert all_finite([tensor])
    tensor[place] = wrong
    assert not all_finite([torch.ones(3), tensor])


def test_infinities_that_cancel_are_found() -> None:
    assert not all_finite([torch.tensor([float("inf"), -float("inf"), 1.0])])


def test_numbers_whose_sum_overflows_are_finite() -> None:
    assert all_finite([torch.full((4,), 3e38), torch.full((4,), 6e4, dtype=torch.float16)])


def test_nothing_whole_numbers_and_empty_tensors_are_finite() -> None:
    assert all_finite([])
    assert all_finite([torch.tensor([1, 2]), torch.tensor([True]), torch.empty(0)])


def test_parameters_are_looked_at_without_their_gradient() -> None:
    layer = torch.nn.Linear(2, 2)
    assert all_finite(layer.parameters())
    assert all(not parameter.grad_fn for parameter in layer.parameters())
