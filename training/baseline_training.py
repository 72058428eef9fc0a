"""Training of whole-slice baselines with the configuration of COVID-CT-Mask-Net: what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.baselines import WholeSliceClassifier, save_baseline
from covid_ct_mask_net.training.datasets.ictcf import BINARY_CLASS_NAMES
from covid_ct_mask_net.training.datasets.records import IMAGE, SLICE_CLASS, Record
from covid_ct_mask_net.training.modes import parameter_counts
from covid_ct_mask_net.training.run_record import MODEL_FILE, training_origin, training_patients
from covid_ct_mask_net.training.runs import RunInfo


def baseline_run(
    baseline: WholeSliceClassifier,
    training: Sequence[Record],
    validation: Sequence[Record],
    *,
    class_names: Sequence[str],
    seed: int,
    settings: Mapping[str, Any],
) -> RunInfo:
    """Describe the training of a baseline, all of whose weights are trained.

    Parameters
    ----------
    baseline : WholeSliceClassifier
    training, validation : sequence of dict
    class_names : sequence of str
        Slice classes by id.
    seed : int
    settings : mapping
        Plain values of the training.
    """
    return RunInfo(
        kind="classifier" if len(class_names) > len(BINARY_CLASS_NAMES) else "binary",
        mode="full",
        model=baseline.name,
        settings={"baseline": {"size": baseline.size}, "training": dict(settings)},
        class_names=tuple(class_names),
        parameters=parameter_counts(baseline, baseline.parameters()),
        training_patients=training_patients(training),
        **training_origin(training, validation, seed),
    )


def check_precision(device: torch.device | str, half: bool) -> None:
    """Refuse half precision where MONAI's trainer, which casts on CUDA alone, would leave it out unsaid.

    Raises
    ------
    UsageError
        If it is asked for on another device.
    """
    kind = torch.device(device).type
    if half and kind != "cuda":
        raise UsageError(
            "PRECISION", f"Baselines have half precision on a CUDA GPU alone, not on {kind}; leave out --amp."
        )


def baseline_saver(folder: str | Path, baseline: WholeSliceClassifier) -> Callable[[], None]:
    """Return what writes ``model.pt`` with the baseline as it is when it is called."""
    return lambda: save_baseline(Path(folder) / MODEL_FILE, baseline)


def prepare_whole_slices(
    batch: Sequence[Mapping[str, Any]], device: torch.device, non_blocking: bool, **_: Any
) -> tuple[list[Tensor], Tensor]:
    """Move slices and their classes (B,) to the device: MONAI engines' ``prepare_batch``."""
    images = [item[IMAGE].to(device, non_blocking=non_blocking) for item in batch]
    return images, torch.tensor([int(item[SLICE_CLASS]) for item in batch], device=device)
