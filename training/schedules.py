"""The learning rate over a run: constant as in the paper, or falling along a cosine, after a warm-up."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch.nn import Parameter
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from covid_ct_mask_net.errors import UsageError

SHAPES = ("constant", "cosine")


def adam(
    parameters: Iterable[Parameter], learning_rate: float, weight_decay: float, *, fused: bool = False
) -> Adam:
    """Return Adam as the paper uses it, with L2 weight decay.

    Parameters
    ----------
    parameters : iterable of Parameter
    learning_rate, weight_decay : float
        Paper: 1e-5 and 1e-3.
    fused : bool
        PyTorch's fused kernel: faster for small networks, sums in another order.
    """
    return Adam(list(parameters), lr=learning_rate, weight_decay=weight_decay, fused=fused)


def schedule(
    optimizer: Optimizer, shape: str, *, epochs: int, epoch_length: int, warm_up_epochs: float = 0.0
) -> LambdaLR:
    """Return a schedule that is stepped once an iteration.

    Parameters
    ----------
    optimizer : Optimizer
        Its learning rate is the highest one.
    shape : str
        ``constant``, or ``cosine``: down to a hundredth at the end.
    epochs, epoch_length : int
        Length of the run, and iterations an epoch.
    warm_up_epochs : float
        The rate rises in a straight line for so long.

    Raises
    ------
    UsageError
        If there is no such shape, or the warm-up is longer than the run.
    """
    if shape not in SHAPES:
        raise UsageError("SCHEDULE", f"The schedule is {shape!r}, but must be {' or '.join(SHAPES)}.")
    if not 0 <= warm_up_epochs < epochs:
        raise UsageError(
            "WARM_UP", f"The warm-up takes {warm_up_epochs:g} epochs of {epochs}; it must end before the run."
        )
    warm_up = round(warm_up_epochs * epoch_length)
    rest = max(epochs * epoch_length - warm_up, 1)

    def factor(iteration: int) -> float:
        if iteration < warm_up:
            return (iteration + 1) / (warm_up + 1)
        if shape == "constant":
            return 1.0
        done = min((iteration - warm_up) / rest, 1.0)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)
