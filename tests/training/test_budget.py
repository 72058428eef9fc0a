"""Iterations and minutes of a training."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ignite.engine import Engine, Events

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.budget import TrainingBudget


def _run(
    budget: TrainingBudget, *, epochs: int, batches: int, seconds: float = 0.0
) -> tuple[Engine, list[int]]:
    engine, epochs_completed = Engine(lambda *_: time.sleep(seconds)), list[int]()
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: epochs_completed.append(e.state.iteration))
    budget.attach(engine)
    engine.run(range(batches), max_epochs=epochs)
    return engine, epochs_completed


def test_rate_warms_up_and_falls() -> None:
    budget = TrainingBudget(100, warm_up=9)
    rates = [budget.factor(iteration) for iteration in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) <= 1
    assert rates[20] > rates[60] > rates[100] == pytest.approx(0.02)


def test_iterations_are_counted() -> None:
    budget = TrainingBudget(6)
    engine, completed = _run(budget, epochs=2, batches=3)
    assert (engine.state.iteration, completed, budget.share) == (6, [3, 6], 1.0)


def test_time_ends_a_training_after_a_last_epoch_that_is_complete_for_all_handlers() -> None:
    budget = TrainingBudget(100_000, minutes=0.25 / 60)
    engine, completed = _run(budget, epochs=1000, batches=100, seconds=0.01)
    assert completed == [engine.state.iteration], "the epoch ended early, but as others do"
    assert 2 <= engine.state.iteration < 100
    assert budget.factor(engine.state.iteration) == pytest.approx(0.02)


def test_a_resumed_run_has_the_time_that_is_left() -> None:
    first, second = (TrainingBudget(100_000, minutes=0.2 / 60) for _ in range(2))
    _run(first, epochs=1000, batches=10, seconds=0.01)
    second.load_state_dict(first.state_dict())
    engine, _ = _run(second, epochs=1000, batches=10, seconds=0.01)
    assert engine.state.iteration == 1
    assert all(isinstance(value, float) for value in first.state_dict().values())


@pytest.mark.parametrize("values", [(0, None), (5, 0.0), (5, -1.0)])
def test_empty_budgets_are_refused(values: tuple[Any, Any]) -> None:
    with pytest.raises(UsageError, match="must be above 0"):
        TrainingBudget(*values)
