"""Train the shipped classifier on the trained detector's trunk: the box head and S, then S alone.

    python -m covid_ct_mask_net.training.release.classifier --detector FILE --chests DIR --output FILE

The rows that S reads are a score and an encoded box; which lesion class a row is of, they do not say. In the
paper's mode S the head must guess it from the deltas. Here the box head learns along with S, from the image
loss alone (the paper's "full" mode trains all), so that deltas may carry what S needs. Backbone, FPN and RPN
stay those of the detector: at inference they run once for both networks. Then S is trained alone, as in
mode S, on the rows of many more slices by several engines (`mixed_rows`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from covid_ct_mask_net.checkpoints import load_segmentation, save_checkpoint
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.regions import Regions, box_outputs, compute_regions
from covid_ct_mask_net.networks.settings import light_classifier_settings
from covid_ct_mask_net.training.release.chests import load_grounds
from covid_ct_mask_net.training.release.class_slices import Draws, class_slices
from covid_ct_mask_net.training.release.mixed_rows import HeadPlan, mixed_engines, mixed_rows, train_head
from covid_ct_mask_net.training.release.pack import CARD

SHIPPED_CLASSIFIER = light_classifier_settings()
_SEED_OF_ROWS = 20201110


@dataclass(frozen=True)
class Plan:
    """How the classifier is trained.

    Attributes
    ----------
    epochs, batch
        Passes over the kept features, and slices a step.
    rate
        Learning rate of S; that of the box head is a tenth.
    seed
        Of weights and order.
    """

    epochs: int = 5
    batch: int = 8
    rate: float = 5e-4
    seed: int = 20201108


@dataclass(frozen=True, eq=False)
class Kept:
    """What the frozen trunk says about one slice, and its class."""

    regions: Regions
    slice_class: int


def initial_classifier(detector: LesionDetector, seed: int) -> CovidCTMaskNet:
    """Return a classifier with the detector's trunk and a random S."""
    torch.manual_seed(seed)
    classifier = CovidCTMaskNet(detector.settings, SHIPPED_CLASSIFIER)
    known = classifier.state_dict()
    classifier.load_state_dict({k: v for k, v in detector.state_dict().items() if k in known}, strict=False)
    return classifier


@torch.no_grad()
def keep_features(classifier: CovidCTMaskNet, slices: Iterable[tuple[Tensor, int]]) -> list[Kept]:
    """Run the frozen part once over all slices."""
    classifier.eval()
    return [Kept(compute_regions(classifier, [image]), slice_class) for image, slice_class in slices]


def train_classifier(
    classifier: CovidCTMaskNet, kept: Sequence[Kept], plan: Plan, log: Path
) -> CovidCTMaskNet:
    """Train the box head and S in place and return the classifier in test mode."""
    heads = classifier.roi_heads
    for parameter in classifier.parameters():
        parameter.requires_grad_(False)
    ours = [*classifier.s.parameters()]
    boxes = [*heads.box_head.parameters(), *heads.box_predictor.parameters()]
    for parameter in (*ours, *boxes):
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [{"params": ours, "lr": plan.rate}, {"params": boxes, "lr": plan.rate / 10}], weight_decay=1e-2
    )
    classes = np.array([one.slice_class for one in kept])
    share = np.bincount(classes, minlength=len(SliceClass)).clip(1)
    weight = torch.tensor(len(classes) / (len(SliceClass) * share), dtype=torch.float32)
    rng = np.random.default_rng(plan.seed)
    steps = plan.epochs * max(1, len(kept) // plan.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [plan.rate, plan.rate / 10], total_steps=steps + 1, pct_start=0.1
    )
    for epoch in range(plan.epochs):
        right, loss_sum, seen = 0, 0.0, 0
        order = rng.permutation(len(kept))
        for start in range(0, len(order) - plan.batch + 1, plan.batch):
            batch = [kept[index] for index in order[start : start + plan.batch]]
            logits = torch.cat(
                [classifier.s(classifier.rank(_again(classifier, one.regions))) for one in batch]
            )
            truth = torch.tensor([one.slice_class for one in batch])
            loss = functional.cross_entropy(logits, truth, weight=weight)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([*ours, *boxes], 5.0)
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(dim=1) == truth).sum())
            loss_sum, seen = loss_sum + float(loss.detach()) * len(batch), seen + len(batch)
        line = {"epoch": epoch + 1, "loss": loss_sum / seen, "accuracy": right / seen}
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return classifier.eval()


def _again(classifier: CovidCTMaskNet, kept: Regions) -> Regions:
    """Return the regions with what the box head says now."""
    class_logits, box_regression = box_outputs(classifier, kept.features, kept.proposals, kept.image_sizes)
    return Regions(
        kept.features, kept.proposals, class_logits, box_regression, kept.image_sizes, kept.original_sizes
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--chests", type=Path, required=True, help="folder of make_phantoms")
    parser.add_argument("--real", type=Path, help="folder that holds the series named in chests.REAL_SLICES")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=Draws.patients, help="patients for the box head and S")
    parser.add_argument("--epochs", type=int, default=Plan.epochs)
    parser.add_argument("--row-draws", type=int, default=2800, help="patients for S alone; 0 leaves that out")
    parser.add_argument("--row-epochs", type=int, default=HeadPlan.epochs)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    plan = Plan(epochs=options.epochs)
    detector = load_segmentation(options.detector)
    log = options.output.with_suffix(".jsonl")
    classifier = initial_classifier(detector, plan.seed)
    grounds = list(load_grounds(options.chests, options.real))
    kept = keep_features(classifier, tqdm(class_slices(grounds, Draws(options.draws)), unit="slice"))
    train_classifier(classifier, kept, plan, log)
    if options.row_draws:
        draws = Draws(options.row_draws, seed=_SEED_OF_ROWS)
        rows = mixed_rows(mixed_engines(detector, classifier), class_slices(grounds, draws))
        train_head(classifier, rows, HeadPlan(epochs=options.row_epochs), log)
    save_checkpoint(options.output, CARD, detector, classifier)


if __name__ == "__main__":
    main()
