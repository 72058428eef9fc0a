"""What happens around the iterations of a training: averages, history, best model, and reasons to stop."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.engines import Evaluator
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.training.budget import TrainingBudget
from covid_ct_mask_net.training.modes import BatchNorm
from covid_ct_mask_net.training.runs import append_history
from covid_ct_mask_net.training.segmentation import DetectorTraining

_LOGGER = logging.getLogger(__name__)
Handler = TypeVar("Handler")


class LossAverages:
    """Average the loss, and its parts by name, over an epoch and all processes into ``state.metrics``.

    The trainer's output is a list of one dictionary with ``loss`` and, where it has parts, ``losses``.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0

    def attach(self, engine: Engine) -> None:
        """Collect every iteration, write when the epoch is complete."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _reset(self) -> None:
        self._sums.clear()
        self._count = 0

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output[0]  # type: ignore[index]
        parts = {"loss": output[CommonKeys.LOSS], **output.get("losses", {})}
        for name, value in parts.items():
            self._sums[name] += float(value.detach())
        self._count += 1

    def _write(self, engine: Engine) -> None:
        names = list(self._sums)
        sums = torch.tensor([self._sums[name] for name in names] + [float(self._count)], dtype=torch.float64)
        if idist.get_world_size() > 1:
            sums = torch.as_tensor(idist.all_reduce(sums.to(idist.device()))).cpu()
        for name, total in zip(names, sums[:-1].tolist(), strict=True):
            engine.state.metrics[name] = total / sums[-1].item()


class EvaluationWriter:
    """Collect what every iteration of an evaluation gives and write when all slices are done."""

    def attach(self, engine: Engine) -> None:
        """Collect every iteration, write when the evaluation is complete."""
        engine.add_event_handler(Events.STARTED, self.reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def reset(self) -> None:
        """Forget what was collected."""
        raise NotImplementedError

    def collect(self, batch: Any, predicted: Any) -> None:
        """Take the batch as it was loaded and what the network made of it."""
        raise NotImplementedError

    def write(self) -> None:
        """Write what was collected."""
        raise NotImplementedError

    def _iteration(self, engine: Engine) -> None:
        output: Any = engine.state.output
        self.collect(engine.state.batch, output[CommonKeys.PRED])


class LossBar(ProgressBar):
    """ignite's progress bar with the loss beside it; MONAI attaches handlers without arguments."""

    def attach(self, engine: Engine) -> None:  # type: ignore[override]
        """Show every iteration."""
        super().attach(engine, output_transform=loss_of)


class StopOnNonFinite:
    """End the run with a sentence where the loss is no number, before weights take harm.

    Raises
    ------
    NotAssessableError
        ``LOSS_NON_FINITE``, from within the training.
    """

    def attach(self, engine: Engine) -> None:
        """Look at every loss before it is differentiated."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Check the loss and its parts."""
        output: Any = engine.state.output
        if math.isfinite(float(output[CommonKeys.LOSS].detach())):
            return
        predicted = output.get(CommonKeys.PRED)
        parts = predicted.items() if isinstance(predicted, dict) else ()
        named = [name for name, value in parts if not math.isfinite(float(value.detach()))]
        raise NotAssessableError(
            "LOSS_NON_FINITE",
            f"The loss{' (' + ', '.join(named) + ')' if named else ''} is no number in iteration "
            f"{engine.state.iteration} (epoch {engine.state.epoch}); lower the learning rate or lengthen the "
            "warm-up. The state of the last whole epoch is kept.",
        )


class ClipGradients:
    """Shorten the gradient where it is longer than a norm, before the optimizer takes its step.

    Parameters
    ----------
    parameters : iterable of Parameter
    norm : float
    """

    def __init__(self, parameters: Iterable[Parameter], norm: float) -> None:
        self.parameters = list(parameters)
        self.norm = norm

    def attach(self, engine: Engine) -> None:
        """Act between differentiation and step."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self) -> None:
        """Shorten it."""
        clip_grad_norm_(self.parameters, self.norm)


class FreezeStatistics:
    """Freeze running statistics of batch normalisation at the end of a training, as they are used afterwards.

    Parameters
    ----------
    network : DetectorTraining
    budget : TrainingBudget
    last : float
        Share of the training, at its end.
    """

    def __init__(self, network: DetectorTraining, budget: TrainingBudget, last: float) -> None:
        self.network = network
        self.budget = budget
        self.last = last

    def attach(self, engine: Engine) -> None:
        """Look before every iteration, which puts the network into training mode anew."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self) -> None:
        """Freeze them if the end has come."""
        if self.budget.share >= 1 - self.last:
            self.network.batch_norm = BatchNorm.FROZEN


class History:
    """Add a line to ``history.csv`` when an epoch is complete: losses, learning rate, validation.

    Parameters
    ----------
    folder : path
        Run folder.
    optimizer : Optimizer
    evaluator : Evaluator, optional
        Whose metrics are written in epochs that were validated.
    """

    def __init__(self, folder: str | Path, optimizer: Optimizer, evaluator: Evaluator | None = None) -> None:
        self.folder = Path(folder)
        self.optimizer = optimizer
        self.evaluator = evaluator

    def attach(self, engine: Engine) -> None:
        """Act when an epoch, and its validation, is complete."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the line."""
        row = {"epoch": engine.state.epoch, "learning_rate": float(self.optimizer.param_groups[0]["lr"])}
        row |= {f"train/{name}": float(value) for name, value in engine.state.metrics.items()}
        if self.evaluator is not None and self.evaluator.state.epoch == engine.state.epoch:
            row |= {f"val/{name}": float(value) for name, value in self.evaluator.state.metrics.items()}
        append_history(self.folder, row)


class SaveBest:
    """Write the model whenever validation found it best so far; without validation, every epoch.

    Parameters
    ----------
    save : callable
        Writes the checkpoint.
    evaluator : Evaluator, optional
        MONAI evaluator with a key metric.
    """

    def __init__(self, save: Callable[[], object], evaluator: Evaluator | None = None) -> None:
        self.save = save
        self.evaluator = evaluator

    def attach(self, engine: Engine) -> None:
        """Act when an epoch, and its validation, is complete."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save if this epoch is the best."""
        if self.evaluator is None or self.evaluator.state.best_metric_epoch == engine.state.epoch:
            self.save()


class SaveEvery:
    """Keep the model of every so many epochs beside the best one, as ``model-epoch-010.pt``.

    MONAI's `CheckpointSaver` writes the states of networks; these files are checkpoints like ``model.pt``.

    Parameters
    ----------
    save : callable
        Writes a checkpoint with the name that it is given (`run_record.model_saver`).
    every : int
        Epochs; 0 or less keeps none.
    """

    def __init__(self, save: Callable[[str], object], every: int) -> None:
        self.save = save
        self.every = every

    def attach(self, engine: Engine) -> None:
        """Act when so many epochs are complete."""
        if self.every > 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.every), self)

    def __call__(self, engine: Engine) -> None:
        """Save the model of this epoch."""
        self.save(f"model-epoch-{engine.state.epoch:03d}.pt")


class StopWithoutGain:
    """End the training when validation has not improved for some epochs.

    An equal figure is no gain, though its epoch is the one that is kept (`not_worse`); nor is one that is no
    number. The best figure goes into the state of the training, so that a resumed run stops where an
    uninterrupted one does (ignite's `EarlyStopping` keeps it to itself inside MONAI's handler).

    Parameters
    ----------
    patience : int
        Epochs; 0 or less never stops.
    evaluator : Evaluator, optional
        MONAI evaluator with a key metric.
    """

    def __init__(self, patience: int, evaluator: Evaluator | None = None) -> None:
        self.patience = patience
        self.evaluator = evaluator
        self._best, self._epoch = -math.inf, 0

    def attach(self, engine: Engine) -> None:
        """Act when an epoch, and its validation, is complete."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed run has to know."""
        return {"best": self._best, "epoch": self._epoch}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from there."""
        self._best, self._epoch = float(state["best"]), int(state["epoch"])

    def __call__(self, engine: Engine) -> None:
        """Stop if the last gain lies too far back."""
        if self.evaluator is None or self.evaluator.state.best_metric_epoch < 1:
            return
        best = float(self.evaluator.state.best_metric)
        if best > self._best:
            self._best, self._epoch = best, engine.state.epoch
        # Counting begins with the first figure, even if it is no number.
        self._epoch = self._epoch or engine.state.epoch
        if 0 < self.patience <= engine.state.epoch - self._epoch:
            _LOGGER.info(
                "Stopped after epoch %d: no gain since epoch %d (best %.4f).",
                engine.state.epoch,
                self._epoch,
                self._best,
            )
            engine.terminate()


def defined_elsewhere(handler: Handler) -> Handler:
    """Return a handler that is an entry of its own, so that other entries may name it.

    In lists of handlers MONAI's check of a bundle takes entries with a ``_target_`` alone, no references.
    """
    return handler


def not_worse(current: float, best: float) -> bool:
    """Whether a metric makes its epoch the best; of equal ones the latest, for AP is 0 for a while."""
    return not current < best


def loss_of(output: Any) -> dict[str, float]:
    """Return the loss of an iteration for progress bars and TensorBoard."""
    return {"loss": float(output[0][CommonKeys.LOSS].detach())}
