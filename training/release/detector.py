"""Train the shipped lesion detector on a supply of synthetic slices, from random weights.

    python -m covid_ct_mask_net.training.release.detector --chests DIR --real DIR --output FILE

What differs from the paper's protocol, because there are no ImageNet weights to start from and no data set to
go through in epochs: AdamW with warm-up and a cosine (the paper: Adam, 1e-5), batch normalisation trained
until the last fifth and frozen then, anchors, image size and matching thresholds of `SHIPPED_DETECTOR`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from covid_ct_mask_net.checkpoints import ModelCard, load_segmentation, save_checkpoint
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import light_detector_settings
from covid_ct_mask_net.training.release.chests import load_grounds
from covid_ct_mask_net.training.release.dense_head import DenseHead, dense_loss
from covid_ct_mask_net.training.release.feed import Feed
from covid_ct_mask_net.training.synthesis.slice_supply import Ground, Sample, SupplySettings

SHIPPED_DETECTOR = light_detector_settings(
    image_min_size=320,
    image_max_size=544,
    anchor_sizes=(10, 22, 48, 100, 200),
    rpn_foreground_iou=0.5,
    roi_foreground_iou=0.5,
    roi_background_iou=0.5,
    rpn_top_training=500,
    rpn_top_testing=300,
    rpn_positive_fraction=0.5,
    roi_batch=16,
    roi_positive_fraction=0.5,
)
CARD = ModelCard(
    name="COVID-CT-Mask-Net resnet18, synthetic",
    version="3",
    trained_on="synthetic lesions in phantom chests and in clear lungs of TCIA Lung-PET-CT-Dx (CC BY 4.0)",
    notice="trained on synthetic lesions, for demonstration only; results have no diagnostic value",
)


@dataclass(frozen=True)
class Plan:
    """One training run.

    Attributes
    ----------
    steps, batch
        Optimiser steps, and slices a process and step.
    rate, warm_up, decay
        Highest learning rate, steps until it is reached, weight decay.
    frozen
        Share of the steps, at the end, in which batch normalisation is frozen.
    hold_stem
        Whether stem and first stage stay as they are: a fifth less work for a detector that goes on from an
        earlier training.
    seed
        Of weights and slices.
    drawing
        Processes that draw slices, for each that trains.
    minutes
        Time after which training is over, whatever the steps; None for no limit. A run that this ends cannot
        be repeated to the bit.
    """

    steps: int = 4000
    batch: int = 8
    rate: float = 6e-4
    warm_up: int = 60
    decay: float = 1e-4
    frozen: float = 0.2
    hold_stem: bool = False
    seed: int = 20201106
    drawing: int = 1
    minutes: float | None = None


def train_detector(  # noqa: C901
    grounds: Sequence[Ground],
    plan: Plan,
    output: Path,
    rank: int = 0,
    world: int = 1,
    start: Path | None = None,
) -> LesionDetector:
    """Train and write a checkpoint, now and then and at the end.

    Parameters
    ----------
    grounds : sequence of Ground
    plan : Plan
    output : Path
        Checkpoint; losses go to the same name with ``.jsonl``.
    rank, world : int
        Number of this process and how many there are; gradients are averaged over all.
    start : Path, optional
        Checkpoint to go on from.
    """
    torch.manual_seed(plan.seed)
    detector = LesionDetector(SHIPPED_DETECTOR)
    if start is not None:
        detector.load_state_dict(load_segmentation(start).state_dict())
    # Convolutions on a CPU are a fifth faster so.
    detector.train().to(memory_format=torch.channels_last)
    learner = _Learner(detector)
    if plan.hold_stem:
        _hold_stem(detector)
    optimizer = torch.optim.AdamW(
        [p for p in learner.parameters() if p.requires_grad], plan.rate, weight_decay=plan.decay
    )
    log = output.with_suffix(".jsonl")
    begun, sums = time.monotonic(), dict[str, float]()
    frozen = False
    with Feed(grounds, SupplySettings(), plan.seed + 1000 * rank, plan.drawing) as feed:
        for step in range(plan.steps):
            done = _share_done(plan, step, time.monotonic() - begun, world)
            if done >= 1:
                break
            if not frozen and done >= 1 - plan.frozen:
                _average_statistics(detector, world)
                _freeze_normalisation(detector)
                frozen = True
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(plan, step, done)
            losses = _step(learner, optimizer, feed.batch(plan.batch), world)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value / 20
            if step % 20 == 19:
                if rank == 0:
                    spent = round(time.monotonic() - begun)
                    line = {"step": step + 1, "seconds": spent, "drawn": feed.drawn, **sums}
                    with log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                sums = {}
            if step % 100 == 99:
                _average_statistics(detector, world)
                if rank == 0:
                    save_checkpoint(output, CARD, detector, None)
    _average_statistics(detector, world)
    if rank == 0:
        save_checkpoint(output, CARD, detector, None)
    return detector.eval()


def learning_rate(plan: Plan, step: int, done: float) -> float:
    """Return the rate of a step: linear warm-up, then a cosine over the share of training done, to 2 %."""
    warm = min(1.0, (step + 1) / plan.warm_up)
    return plan.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def _share_done(plan: Plan, step: int, seconds: float, world: int) -> float:
    """Return how much of the training is done, by steps or by time, the same in all processes."""
    share = step / plan.steps
    if plan.minutes is not None:
        spent = torch.tensor(seconds)
        if world > 1:
            distributed.broadcast(spent, 0)
        share = max(share, float(spent) / (60 * plan.minutes))
    return share


class _Learner(nn.Module):
    """The detector with the dense head, which sees the features as they pass."""

    def __init__(self, detector: LesionDetector) -> None:
        super().__init__()
        self.detector = detector
        self.dense = DenseHead()
        self._features: list[Tensor] = []
        detector.backbone.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: object, output: dict[str, Tensor]) -> None:
        self._features.append(output["0"])

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the losses of the detector and of the dense head."""
        self._features.clear()
        losses = self.detector(images, targets)
        if not isinstance(losses, dict):
            raise TypeError("The detector is not in training mode.")
        return {**losses, "loss_dense": dense_loss(self.dense(self._features.pop()), targets)}


def _step(
    detector: _Learner, optimizer: torch.optim.Optimizer, batch: list[Sample], world: int
) -> dict[str, float]:
    # bfloat16 nearly doubles the speed of convolutions on processors that know it.
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector([image for image, _ in batch], [target for _, target in batch])
    losses = {name: loss.float() for name, loss in losses.items()}
    total = torch.stack([loss.reshape(()) for loss in losses.values()]).sum()
    optimizer.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    parameters = [p for p in detector.parameters() if p.grad is not None]
    if world > 1:
        _average([p.grad for p in parameters if p.grad is not None], world)
    nn.utils.clip_grad_norm_(parameters, 5.0)
    optimizer.step()
    return {name: float(loss.detach()) for name, loss in losses.items()}


def _average(tensors: Sequence[Tensor], world: int) -> None:
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= world
    parts = flat.split([t.numel() for t in tensors])  # type: ignore[no-untyped-call]
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def _normalisations(detector: LesionDetector) -> Iterator[nn.BatchNorm2d]:
    return (module for module in detector.modules() if isinstance(module, nn.BatchNorm2d))


def _average_statistics(detector: LesionDetector, world: int) -> None:
    """Give all processes the mean of their running statistics."""
    if world == 1:
        return
    with torch.no_grad():
        for module in _normalisations(detector):
            if module.running_mean is not None and module.running_var is not None:
                _average([module.running_mean, module.running_var], world)


def _freeze_normalisation(detector: LesionDetector) -> None:
    """Use running statistics from here on, as inference does."""
    for module in _normalisations(detector):
        module.eval()


def _hold_stem(detector: LesionDetector) -> None:
    """Keep stem and first residual stage, statistics too."""
    for name, module in detector.backbone.body.named_children():
        if name in ("conv1", "bn1", "layer1"):
            module.requires_grad_(False).eval()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line, in one process or under ``torchrun``."""
    import os

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chests", type=Path, required=True, help="folder of make_phantoms")
    parser.add_argument("--real", type=Path, help="folder that holds the series named in chests.REAL_SLICES")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--initial", type=Path, help="checkpoint to go on from")
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--hold-stem", action="store_true", help="keep stem and first stage as they are")
    options = parser.parse_args(arguments)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(1)
    if world > 1:
        distributed.init_process_group("gloo")
    plan = Plan(
        steps=options.steps,
        rate=options.rate,
        seed=options.seed,
        minutes=options.minutes,
        hold_stem=options.hold_stem,
    )
    grounds = list(load_grounds(options.chests, options.real))
    train_detector(grounds, plan, options.output, rank, world, options.initial)


if __name__ == "__main__":
    main()
