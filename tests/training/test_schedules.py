"""Learning rates over a run."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.schedules import adam, schedule


def _rates(shape: str, **settings: float) -> list[float]:
    optimizer = adam([torch.nn.Parameter(torch.zeros(1))], 1e-2, 0.0)
    scheduler = schedule(optimizer, shape, epochs=10, epoch_length=4, **settings)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_paper_has_a_constant_rate() -> None:
    assert _rates("constant") == [1e-2] * 40


def test_warm_up_rises_in_a_line() -> None:
    rates = _rates("constant", warm_up_epochs=2)
    assert rates[:8] == pytest.approx([1e-2 * (i + 1) / 9 for i in range(8)])
    assert rates[8:] == [1e-2] * 32


def test_cosine_falls_to_a_hundredth() -> None:
    rates = _rates("cosine", warm_up_epochs=1)
    assert rates[4] == pytest.approx(1e-2)
    assert all(later < earlier for earlier, later in pairwise(rates[4:]))
    assert rates[-1] == pytest.approx(1e-4, rel=0.25)


def test_unknown_shapes_and_endless_warm_up_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'step'.*constant or cosine"):
        _rates("step")
    with pytest.raises(UsageError, match="10 epochs of 10"):
        _rates("constant", warm_up_epochs=10)


def test_adam_is_the_papers() -> None:
    optimizer = adam([torch.nn.Parameter(torch.zeros(1))], 1e-5, 1e-3)
    assert optimizer.defaults["lr"] == 1e-5
    assert optimizer.defaults["weight_decay"] == 1e-3
