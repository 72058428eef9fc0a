"""The state of a training after each epoch, so that it goes on exactly as if it had not stopped.

Random numbers need no state: they follow from seed, epoch and slice (`randomness`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from covid_ct_mask_net.checkpoints import DAMAGE
from covid_ct_mask_net.errors import OutputError, RefusedInputError, UsageError

STATE_FILE = "state.pt"
_FORMAT = "covid-ct-mask-net/training-state/1"
_LOGGER = logging.getLogger(__name__)


class Stateful(Protocol):
    """What has a state to go on from."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from it."""


class TrainingState:
    """Write ``state.pt``, and go on from it.

    Parameters
    ----------
    folder : path
        Run folder.
    network : torch.nn.Module
        The network itself, without a wrapper for several processes.
    optimizer, scheduler
        Of the run.
    fingerprint : mapping
        Plain values that must be the same when the run goes on: data hash, settings, seed.
    evaluator : Evaluator, optional
        Its best metric is kept.
    write : bool
        Whether this process writes; all of them read.
    parts : mapping of str to Stateful, optional
        What else has a state of plain values, by name.
    """

    def __init__(
        self,
        folder: str | Path,
        network: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        fingerprint: Mapping[str, Any],
        evaluator: Evaluator | None = None,
        *,
        write: bool = True,
        parts: Mapping[str, Stateful] | None = None,
    ) -> None:
        self.path = Path(folder) / STATE_FILE
        self.network = network
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.fingerprint = dict(fingerprint)
        self.evaluator = evaluator
        self.write = write
        self.parts = dict(parts or {})

    def save(self, engine: Engine) -> None:
        """Write the state, whole or not at all."""
        if not self.write:
            return
        content: dict[str, Any] = {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }
        if self.evaluator is not None:
            state = self.evaluator.state
            content["best"] = (float(state.best_metric), int(state.best_metric_epoch))
        partial = self.path.with_name(f".{STATE_FILE}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(content, partial)
            partial.replace(self.path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise OutputError(
                "STATE_UNWRITTEN",
                f"The state {self.path} could not be written; see that its folder is writable and has room.",
            ) from error

    def begin(self) -> None:
        """Refuse to write over another run.

        Raises
        ------
        UsageError
            If the folder holds a run already.
        """
        if self.path.is_file():
            raise UsageError(
                "RUN_EXISTS",
                f"There is a run in {self.path.parent} already; go on with it by --resume true, or name "
                "another output_dir.",
            )

    def resume(self, engine: Engine) -> None:
        """Set network, optimizer, schedule and engines to where the run stopped.

        Raises
        ------
        UsageError
            If there is no state, or settings differ; the sentence says which.
        RefusedInputError
            If the file cannot be read.
        """
        content = self._read()
        theirs = content["fingerprint"]
        different = sorted(
            name for name in {*theirs, *self.fingerprint} if theirs.get(name) != self.fingerprint.get(name)
        )
        if different:
            raise UsageError(
                "RESUME_MISMATCH",
                f"The run in {self.path.parent} was started with other values of {', '.join(different)}; "
                "resume it with the same ones, or start a new run.",
            )
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scheduler.load_state_dict(content["scheduler"])
        for name, part in self.parts.items():
            # A state of an earlier version may lack a part, which then begins anew.
            if name in content["parts"]:
                part.load_state_dict(content["parts"][name])
        engine.state.epoch, engine.state.iteration = content["epoch"], content["iteration"]
        if self.evaluator is not None and "best" in content:
            self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = content["best"]
        _LOGGER.info("Going on after epoch %d.", content["epoch"])

    def _read(self) -> dict[str, Any]:
        if not self.path.is_file():
            raise UsageError("RUN_MISSING", f"There is no run to go on with in {self.path.parent}.")
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except DAMAGE as error:
            raise RefusedInputError("STATE_UNREADABLE", f"The state {self.path} cannot be read.") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise RefusedInputError("STATE_UNREADABLE", f"{self.path} is no state of a training ({_FORMAT}).")
        return content


class SaveState:
    """Save the state of a training when an epoch, and its validation, is complete.

    Parameters
    ----------
    state : TrainingState
    """

    def __init__(self, state: TrainingState) -> None:
        self.state = state

    def attach(self, engine: Engine) -> None:
        """Act after every epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save."""
        self.state.save(engine)
