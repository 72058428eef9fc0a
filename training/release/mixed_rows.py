"""Train S alone on the rows of many slices, each computed in float32, bfloat16 and int8.

The trunk and the box head stay, so the rows of a slice are computed once. Engines of other precision give
other rows of the same slice: some regions change places. S is taught that they mean the same, by the class of
the slice and by its own answers to the other rows; an engine with small deviations may then stand in for the
exact one (``benchmarks/admission.py`` says whether it may).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from covid_ct_mask_net.engines.base import Engine, Precision, has_bfloat16
from covid_ct_mask_net.engines.compiled import CompiledEngine
from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector

_AT_A_TIME = 16


@dataclass(frozen=True)
class HeadPlan:
    """How S is trained on rows.

    Attributes
    ----------
    epochs, batch
        Passes over the rows, and slices a step.
    rate, decay
        Largest learning rate and weight decay of AdamW.
    dropout
        Share of the numbers of a slice's rows that are set to zero in a step.
    agreement
        Weight of the divergence between answers to the rows of one slice.
    control
        Weight of Control beside that of the diseases; classes have equal sums otherwise. A scan has many more
        slices without lesions than with them, and vessels of people that S has not seen look like small ones.
    seed
        Of order and dropout.
    """

    epochs: int = 60
    batch: int = 32
    rate: float = 5e-4
    decay: float = 5e-2
    dropout: float = 0.5
    agreement: float = 20.0
    control: float = 2.0
    seed: int = 20201109


@dataclass(frozen=True, eq=False)
class MixedRows:
    """Rows of slices.

    Attributes
    ----------
    rows
        (slices, engines, N, 5).
    classes
        (slices,): class ids.
    """

    rows: Tensor
    classes: Tensor


def mixed_engines(detector: LesionDetector, classifier: CovidCTMaskNet) -> tuple[Engine, ...]:
    """Return the engines whose rows S learns from: exact, and fast in each precision of this processor."""
    precisions = [Precision.BFLOAT16] if has_bfloat16() else []
    precisions += [Precision.INT8]
    return (
        build_engine(detector, classifier, 1.0, name="exact", cache="none"),
        *(
            build_engine(detector, classifier, 1.0, name="fast", precision=precision, cache="none")
            for precision in precisions
        ),
    )


def mixed_rows(engines: Sequence[Engine], slices: Iterable[tuple[Tensor, int]]) -> MixedRows:
    """Compute the rows of slices (1, H, W) by every engine."""
    rows, classes = [], []
    remaining: Iterator[tuple[Tensor, int]] = iter(slices)
    with tqdm(desc="rows", unit="slice") as bar:
        while part := list(islice(remaining, _AT_A_TIME)):
            images = [image for image, _ in part]
            rows.append(torch.stack([_rows(engine, images) for engine in engines], dim=1))
            classes += [slice_class for _, slice_class in part]
            bar.update(len(part))
    return MixedRows(torch.cat(rows), torch.tensor(classes))


def _rows(engine: Engine, images: list[Tensor]) -> Tensor:
    if not isinstance(engine, CompiledEngine):
        raise TypeError(f"Rows are computed by compiled engines, not by {engine.report.name}.")
    return engine.rows(images)


def train_head(classifier: CovidCTMaskNet, data: MixedRows, plan: HeadPlan, log: Path) -> CovidCTMaskNet:
    """Train S in place and return the classifier in test mode; a line an epoch goes to ``log``."""
    for parameter in classifier.parameters():
        parameter.requires_grad_(False)
    head = classifier.s.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=plan.rate, weight_decay=plan.decay)
    steps = max(1, len(data.classes) // plan.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.rate, total_steps=plan.epochs * steps + 1, pct_start=0.1
    )
    share = torch.bincount(data.classes, minlength=len(SliceClass)).clamp(min=1)
    weight = len(data.classes) / (len(SliceClass) * share.float())
    weight[SliceClass.CONTROL] *= plan.control
    rng = np.random.default_rng(plan.seed)
    torch.manual_seed(plan.seed)
    for epoch in range(plan.epochs):
        loss_sum, right, agreed, seen = 0.0, 0, 0, 0
        order = rng.permutation(len(data.classes))
        for start in range(0, steps * plan.batch, plan.batch):
            chosen = torch.from_numpy(order[start : start + plan.batch])
            rows, truth = data.rows[chosen], data.classes[chosen]
            count, engines = rows.shape[:2]
            # One mask for all rows of a slice: what differs between them is the engine alone.
            mask = functional.dropout(torch.ones(count, 1, *rows.shape[2:]), plan.dropout)
            logits = head((rows * mask).flatten(0, 1)).view(count, engines, -1)
            told = functional.cross_entropy(
                logits.flatten(0, 1), truth.repeat_interleave(engines), weight=weight
            )
            loss = told + plan.agreement * _divergence(logits)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(head.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            answers = logits.argmax(dim=-1)
            right += int((answers[:, 0] == truth).sum())
            agreed += int((answers == answers[:, :1]).all(dim=1).sum())
            loss_sum, seen = loss_sum + float(loss.detach()) * count, seen + count
        line = {
            "head_epoch": epoch + 1, "loss": loss_sum / max(seen, 1),
            "accuracy": right / max(seen, 1), "agreement": agreed / max(seen, 1),
        }  # fmt: skip
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return classifier.eval()


def _divergence(logits: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence of answers (B, E, C) from their mean over engines."""
    answers = functional.log_softmax(logits, dim=-1)
    mean = torch.logsumexp(answers, dim=1, keepdim=True) - np.log(answers.shape[1])
    divergence: Tensor = (answers.exp() * (answers - mean)).sum(dim=-1).mean()
    return divergence
