"""What the training configurations of the bundle call around MONAI's engines."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from monai.engines import Trainer
from monai.utils import set_determinism

from covid_ct_mask_net import switches
from covid_ct_mask_net.errors import CovidCTMaskNetError, UsageError
from covid_ct_mask_net.training.training_state import TrainingState

_LOGGER = logging.getLogger(__name__)
# Configurations find it beside the other steps of a run.
switch = switches.switch


def run_training(
    trainer: Trainer, state: TrainingState, resume: bool, supply: AbstractContextManager[Any] | None = None
) -> None:
    """Train from the first epoch, or from where the run stopped.

    Parameters
    ----------
    trainer : Trainer
    state : TrainingState
        Also one of the trainer's handlers.
    resume : bool
        Whether a run in the folder goes on; without it, one that is there is refused.
    supply : context manager, optional
        What has to be closed after the training, however it ends: data that processes of their own make.
    """
    if resume:
        state.resume(trainer)
    else:
        state.begin()
    if trainer.state.epoch >= trainer.state.max_epochs:
        _LOGGER.info("All %d epochs are done; raise epochs to train on.", trainer.state.max_epochs)
        return
    with supply or nullcontext():
        trainer.run()


def prepare_process(seed: int, deterministic_algorithms: bool = False) -> None:
    """Seed everything and let expected failures end in one sentence.

    Parameters
    ----------
    seed : int
    deterministic_algorithms : bool
        Only PyTorch kernels that give the same bits in each run: needed on a GPU for equal runs, slower, and
        an error where there is none. On a CPU runs are equal for the same number of threads anyway.
    """
    sys.excepthook = sentence_hook
    set_determinism(seed=seed, use_deterministic_algorithms=deterministic_algorithms or None)


def sentence_hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Write code and sentence of an expected failure and leave with its exit code; trace all others.

    MONAI evaluates configurations inside its own error handling, so the failure is searched for among the
    causes.
    """
    expected = expected_failure(error)
    if expected is None:
        sys.__excepthook__(kind, error, traceback)
        return
    sys.stderr.write(f"{expected.code}: {expected.sentence}\n")
    # The interpreter takes the exit code of a SystemExit that a hook raises.
    raise SystemExit(int(expected.exit_code))


def expected_failure(error: BaseException | None) -> CovidCTMaskNetError | None:
    """Return the failure of ours behind an exception, or None."""
    while error is not None:
        if isinstance(error, CovidCTMaskNetError):
            return error
        error = error.__cause__ or error.__context__
    return None


def fixed_setting(name: str, value: object, fixed: object, instead: str) -> None:
    """Refuse another value of a setting that an overlay does not use: no run records what it did not do.

    Parameters
    ----------
    name : str
    value, fixed : object
        As set, and the only one that holds.
    instead : str
        What to set instead, as a clause.

    Raises
    ------
    UsageError
        If they differ.
    """
    if value != fixed:
        raise UsageError(
            "SETTING", f"{name} is {value!r}, but is always {fixed!r} in this configuration: {instead}."
        )


def tensorboard_installed() -> bool:
    """Whether TensorBoard, which is optional (``covid-ct-mask-net[training]``), is installed."""
    return importlib.util.find_spec("tensorboard") is not None


def training_device() -> torch.device:
    """Return the GPU of this process (``LOCAL_RANK``, set by torchrun), or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def absolute(path: str | Path) -> str:
    """Return a path that does not depend on the working directory."""
    return str(Path(path).expanduser().resolve())


def network_of(module: Any) -> Any:
    """Return the module inside DistributedDataParallel, or the module itself."""
    return getattr(module, "module", module)
