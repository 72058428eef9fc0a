"""Training in several processes, one a GPU, or one a core group with gloo: started by ``torchrun``."""

from __future__ import annotations

import logging
import os

import ignite.distributed as idist
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.modes import batch_norms


def start_processes(device: torch.device | str) -> None:
    """Join the process group that torchrun has prepared: NCCL on GPUs, gloo on the CPU.

    Parameters
    ----------
    device : torch.device or str
        Of this process.

    Raises
    ------
    UsageError
        If the program was not started by torchrun.
    """
    if "RANK" not in os.environ:
        raise UsageError(
            "TORCHRUN",
            "The configuration for several processes is started by torchrun --nproc_per_node=N -m "
            "monai.bundle run ...; leave the overlay out for one process.",
        )
    # MONAI hands --device cuda:1 on as a text.
    device = torch.device(device)
    if not torch.distributed.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if idist.get_rank() > 0:
        # What rank 0 says need not be read once for each process.
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger("ignite").setLevel(logging.WARNING)
    # Handlers that only rank 0 has ask ignite for the rank, which is a collective call the first time; while
    # the other ranks are in backward already, both would wait for ever.
    idist.sync()


def distributed(
    network: nn.Module,
    device: torch.device | str,
    *,
    unused_parameters: bool,
    learned_statistics: bool = False,
) -> DistributedDataParallel:
    """Return a network whose gradients are averaged over the processes.

    Parameters
    ----------
    network : torch.nn.Module
    device : torch.device or str
        Of this process.
    unused_parameters : bool
        Whether some parameters get no gradient: the RPN's head in mode ``full`` of the classifier.
    learned_statistics : bool
        Whether batch normalisation estimates its statistics: on GPUs over all processes then. PyTorch has
        that on GPUs alone; on the CPU each process normalises its own slices, and rank 0's running statistics
        count.
    """
    device = torch.device(device)
    if learned_statistics and device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(
        network.to(device),
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=unused_parameters,
        # Frozen statistics are the same everywhere.
        forward_sync_buffers=learned_statistics and bool(batch_norms(network)),
    )


def several_processes() -> bool:
    """Whether this process is one of several that train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized() and (
        torch.distributed.get_world_size() > 1
    )  # fmt: skip
