"""How long a training takes, by iterations or by the clock, and what follows from how much of it is over."""

from __future__ import annotations

import logging
import math
import time

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from covid_ct_mask_net.errors import UsageError

_LOGGER = logging.getLogger(__name__)


class TrainingBudget:
    """End a training after its iterations or its minutes, and say how much of it is over.

    Where time ends a training, a schedule by iterations would stop at a high learning rate; so the rate
    follows the share that is over, whichever way it is measured. ignite's `TimeLimit` ends a run too, but
    knows no share, and leaves out the end of the epoch, where the model is validated and saved.

    Parameters
    ----------
    iterations : int
        Of the whole training.
    minutes : float, optional
        Of the whole training, validation and earlier parts of a resumed run included; a run that they end
        cannot be repeated to the bit.
    warm_up : int
        Iterations in which the learning rate rises in a straight line.
    floor : float
        Learning rate at the end, as a share of the highest.

    Raises
    ------
    UsageError
        If the budget is empty.
    """

    def __init__(
        self, iterations: int, minutes: float | None = None, warm_up: int = 0, floor: float = 0.02
    ) -> None:
        if iterations < 1 or (minutes is not None and minutes <= 0):
            raise UsageError(
                "BUDGET",
                f"A training of {iterations} iterations and {minutes} minutes does nothing; both must be "
                "above 0.",
            )
        self.iterations = iterations
        self.minutes = minutes
        self.warm_up = warm_up
        self.floor = floor
        self.share = 0.0
        self._seconds = 0.0
        self._begun = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Measure every iteration; when time is over, the epoch ends as others do, and is the last."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end)

    def factor(self, iteration: int) -> float:
        """Return the learning rate of an iteration as a share of the highest: warm-up, then a cosine."""
        warm = min(1.0, (iteration + 1) / (self.warm_up + 1))
        over = min(max(self.share, iteration / self.iterations), 1.0)
        return warm * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * over)))

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed run has to know."""
        return {"seconds": self._seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from there."""
        self._seconds = float(state["seconds"])

    def _start(self, engine: Engine) -> None:
        self._begun = time.monotonic() - self._seconds
        self._measure(engine)

    def _iteration(self, engine: Engine) -> None:
        self._measure(engine)
        if self.minutes is not None and self.share >= 1:
            engine.terminate_epoch()

    def _measure(self, engine: Engine) -> None:
        self._seconds = time.monotonic() - self._begun
        if self.minutes is not None and idist.get_world_size() > 1:
            # One clock for all: processes that stop at different iterations wait for each other for ever.
            shared = idist.broadcast(torch.tensor(self._seconds, dtype=torch.float64), src=0)
            self._seconds = float(torch.as_tensor(shared))
        self.share = engine.state.iteration / self.iterations
        if self.minutes is not None:
            self.share = max(self.share, self._seconds / (60 * self.minutes))

    def _end(self, engine: Engine) -> None:
        if self.share >= 1 and engine.state.iteration < self.iterations:
            _LOGGER.info("Time is over after %d of %d iterations.", engine.state.iteration, self.iterations)
            engine.terminate()
