"""Averages, history, best model and reasons to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from builders.networks import small_model
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.training.budget import TrainingBudget
from covid_ct_mask_net.training.files import read_rows
from covid_ct_mask_net.training.handlers import (
    ClipGradients,
    FreezeStatistics,
    History,
    LossAverages,
    LossBar,
    SaveBest,
    SaveEvery,
    StopOnNonFinite,
    StopWithoutGain,
    loss_of,
    not_worse,
)
from covid_ct_mask_net.training.modes import batch_norms
from covid_ct_mask_net.training.segmentation import DetectorTraining


def _trainer(losses: list[float]) -> Engine:
    """Return an engine that "computes" these losses, one an iteration."""

    def step(engine: Engine, batch: int) -> list[dict[str, Any]]:
        loss = torch.tensor(losses[engine.state.iteration - 1], requires_grad=True)
        engine.state.output = {"loss": loss, "pred": {"loss_mask": loss, "loss_classifier": torch.ones(())}}
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        return [{"loss": loss, "losses": {"loss_mask": loss * 2}}]

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    return engine


class Validator(Engine):
    """Gives these key metrics, one an epoch, as MONAI's evaluator does."""

    def __init__(self, figures: list[float]) -> None:
        super().__init__(lambda *_: None)
        self.figures = figures
        self.state.best_metric, self.state.best_metric_epoch = -1.0, -1

    def attach(self, trainer: Engine) -> None:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.validate)

    def validate(self, trainer: Engine) -> None:
        figure = self.figures[trainer.state.epoch - 1]
        self.state.epoch, self.state.metrics = trainer.state.epoch, {"ap": figure}
        if self.state.best_metric_epoch < 0 or not_worse(figure, self.state.best_metric):
            self.state.best_metric, self.state.best_metric_epoch = figure, trainer.state.epoch


def _optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.25)


def test_losses_are_averaged_by_name_and_epoch(tmp_path: Path) -> None:
    trainer = _trainer([1.0, 3.0, 5.0, 7.0])
    LossAverages().attach(trainer)
    validator = Validator([0.5, 0.25])
    validator.attach(trainer)
    History(tmp_path, _optimizer(), validator).attach(trainer)
    trainer.run([0, 0], max_epochs=2)
    rows = read_rows(tmp_path / "history.csv")
    assert [float(row["train/loss"]) for row in rows] == [2.0, 6.0]
    assert [float(row["train/loss_mask"]) for row in rows] == [4.0, 12.0]
    assert [float(row["val/ap"]) for row in rows] == [0.5, 0.25]
    assert {row["learning_rate"] for row in rows} == {"0.25"}


def test_epochs_without_validation_have_no_figure(tmp_path: Path) -> None:
    trainer, validator = _trainer([1.0, 1.0]), Validator([0.5])
    LossAverages().attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), validator.validate)
    History(tmp_path, _optimizer(), validator).attach(trainer)
    trainer.run([0], max_epochs=2)
    assert [row["val/ap"] for row in read_rows(tmp_path / "history.csv")] == ["0.5", ""]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_in_a_sentence(wrong: float) -> None:
    trainer = _trainer([1.0, wrong, 1.0])
    StopOnNonFinite().attach(trainer)
    with pytest.raises(NotAssessableError, match=r"\(loss_mask\) is no number in iteration 2 \(epoch 1\)"):
        trainer.run([0, 0, 0], max_epochs=1)


def test_the_best_epoch_is_saved_and_of_equal_ones_the_latest() -> None:
    trainer, validator = _trainer([1.0] * 5), Validator([0.0, 0.0, 0.3, 0.2, 0.3])
    saved: list[int] = []
    validator.attach(trainer)
    SaveBest(lambda: saved.append(trainer.state.epoch), validator).attach(trainer)
    trainer.run([0], max_epochs=5)
    assert saved == [1, 2, 3, 5]


def test_without_validation_every_epoch_is_saved() -> None:
    trainer = _trainer([1.0] * 2)
    saved: list[int] = []
    SaveBest(lambda: saved.append(trainer.state.epoch)).attach(trainer)
    trainer.run([0], max_epochs=2)
    assert saved == [1, 2]


@pytest.mark.parametrize(("every", "expected"), [(2, [2, 4]), (5, [5]), (0, [])])
def test_the_model_of_every_few_epochs_is_kept(every: int, expected: list[int]) -> None:
    trainer = _trainer([1.0] * 5)
    saved: list[str] = []
    SaveEvery(saved.append, every).attach(trainer)
    trainer.run([0], max_epochs=5)
    assert saved == [f"model-epoch-{epoch:03d}.pt" for epoch in expected]


NAN = float("nan")


@pytest.mark.parametrize(
    ("figures", "patience", "last"),
    [
        ([0.1, 0.5, 0.4, 0.4, 0.5, 0.1], 2, 4),
        ([0.1, 0.5, 0.4, 0.4, 0.5, 0.1], 3, 5),
        ([0.1, 0.5, 0.4, 0.4, 0.5, 0.1], 0, 6),
        ([0.3] * 6, 2, 3),
        ([NAN] * 6, 2, 3),
        ([0.5, NAN, 0.4, 0.45, 0.6, 0.1], 3, 4),
        ([0.5, NAN, 0.4, 0.6, 0.1, 0.1], 3, 6),
    ],
)
def test_training_stops_after_epochs_without_gain(figures: list[float], patience: int, last: int) -> None:
    trainer, validator = _trainer([1.0] * 6), Validator(figures)
    validator.attach(trainer)
    StopWithoutGain(patience, validator).attach(trainer)
    trainer.run([0], max_epochs=6)
    assert trainer.state.epoch == last


def test_a_resumed_run_counts_on() -> None:
    first = StopWithoutGain(3, Validator([0.5, 0.5, 0.5, 0.5]))
    trainer = _trainer([1.0] * 4)
    first.evaluator.attach(trainer)  # type: ignore[union-attr,arg-type]
    first.attach(trainer)
    trainer.run([0], max_epochs=2)
    again = StopWithoutGain(3, first.evaluator)
    again.load_state_dict(first.state_dict())
    trainer.add_event_handler(Events.EPOCH_COMPLETED, again)
    trainer.remove_event_handler(first, Events.EPOCH_COMPLETED)
    trainer.run([0], max_epochs=9)
    assert trainer.state.epoch == 4


def test_figures_that_are_no_numbers_do_not_hide_later_epochs() -> None:
    assert not_worse(0.2, 0.2)
    assert not not_worse(0.1, 0.2)
    assert not_worse(float("nan"), 0.2)


def test_the_bar_shows_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = _trainer([1.5, 2.5])
    LossBar(desc="training", persist=True).attach(trainer)
    trainer.run([0, 0], max_epochs=1)
    assert "loss=2.5" in capsys.readouterr().err
    assert loss_of([{"loss": torch.tensor(1.5)}]) == {"loss": 1.5}


def test_long_gradients_are_shortened_and_short_ones_left() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    engine = Engine(lambda e, _: e.fire_event(IterationEvents.BACKWARD_COMPLETED))
    engine.register_events(*IterationEvents)
    ClipGradients(iter(weights), 2.0).attach(engine)
    for length, expected in ((8.0, 2.0), (1.0, 1.0)):
        for weight in weights:
            weight.grad = torch.full((2,), length / 2)
        engine.run([0], max_epochs=1)
        found = torch.cat([weight.grad for weight in weights if weight.grad is not None]).norm()
        assert float(found) == pytest.approx(expected, abs=1e-4)


def test_statistics_freeze_for_the_end() -> None:
    detector = small_model().detector
    assert detector is not None
    network, learns = DetectorTraining(detector, "learned", joint=True), list[bool]()
    budget = TrainingBudget(10)

    def step(*_: Any) -> None:
        network.train()
        learns.append(batch_norms(network)[0].training)

    engine = Engine(step)
    FreezeStatistics(network, budget, 0.3).attach(engine)
    budget.attach(engine)
    engine.run(range(5), max_epochs=2)
    assert learns == [True] * 7 + [False] * 3
