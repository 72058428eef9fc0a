"""Slices a second in training: a step is forward, backward and optimizer; all sides take turns.

    python benchmarks/training.py --network resnet50 --batch 2 --rounds 3       two cores: minutes
    python benchmarks/training.py --network resnet50 --batch 16                 a GPU, if there is one

Weights are random and slices are noise in an ellipse with twelve lesions each, as many fragments as experts
outline: this measures time. Ratios are those to the side that works as the original's code does: one slice
after the other in float32, and for S the whole trunk in every step.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from gpu import slices_of_noise
from torch import Tensor
from torch.nn import functional

from covid_ct_mask_net.checkpoints import untrained_model
from covid_ct_mask_net.engines.base import Precision, has_bfloat16
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import (
    ClassifierSettings,
    DetectorSettings,
    light_classifier_settings,
    light_detector_settings,
)
from covid_ct_mask_net.training.bundle_run import training_device
from covid_ct_mask_net.training.modes import train_classifier, train_detector
from covid_ct_mask_net.training.segmentation import DetectorTraining, mixed_precision
from covid_ct_mask_net.training.targets import detection_target
from covid_ct_mask_net.training.trunk_cache import FORMATS, BoxHeadTraining, kept_form, trunk_engine

SIDE = 512
LESIONS = 12
Step = Callable[[], Tensor]


def networks(network: str) -> tuple[LesionDetector, CovidCTMaskNet]:
    light = network == "light"
    model = untrained_model(
        light_detector_settings() if light else DetectorSettings(),
        light_classifier_settings() if light else ClassifierSettings(),
        1,
    )
    if model.detector is None or model.classifier is None:
        raise TypeError("An untrained model holds both networks.")
    return model.detector, model.classifier


def lesion_targets(count: int, device: torch.device) -> list[dict[str, Tensor]]:
    """Return targets of slices: discs of 5 to 20 pixels radius that do not touch, both classes."""
    rng = np.random.default_rng(1)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    targets = []
    for _ in range(count):
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        for number in range(LESIONS):
            y, x = (
                100 + 80 * (number // 4) + rng.integers(0, 20),
                100 + 80 * (number % 4) + rng.integers(0, 20),
            )
            mask[(rows - y) ** 2 + (columns - x) ** 2 < rng.integers(5, 20) ** 2] = 1 + number % 2
        target = detection_target(mask, MaskType.BOTH, minimum_area=0)
        targets.append({name: value.to(device) for name, value in target.items()})
    return targets


def step_of(parameters: list[torch.nn.Parameter], loss: Callable[[], Tensor]) -> Step:
    optimizer = torch.optim.Adam(parameters, lr=1e-6)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        found = loss()
        found.backward()
        optimizer.step()
        return found.detach()

    return step


def detector_step(network: str, slices: list[Tensor], *, joint: bool, amp: bool) -> Step:
    device = slices[0].device
    detector = networks(network)[0].to(device)
    mixed_precision(detector, device, amp)
    training = DetectorTraining(detector, "frozen", joint).train()
    targets = lesion_targets(len(slices), device)
    seeds = list(range(len(slices)))

    def loss() -> Tensor:
        return torch.stack(list(training(slices, targets, seeds).values())).sum()

    return step_of(train_detector(detector, "full"), loss)


def classifier_step(network: str, slices: list[Tensor], mode: str, *, kept: bool, amp: bool) -> Step:
    device = slices[0].device
    classifier = networks(network)[1].to(device).train()
    mixed_precision(classifier, device, amp)
    parameters = train_classifier(classifier, mode)
    classes = torch.arange(len(slices), device=device) % 3
    with torch.no_grad():
        rows = classifier.rows(slices)

    def loss() -> Tensor:
        logits = classifier.s(rows) if kept else classifier(slices)
        return functional.cross_entropy(logits, classes)

    return step_of(parameters, loss)


def kept_trunk_step(network: str, slices: list[Tensor], precision: Precision) -> Step:
    """Return a step of box head and S on what was kept of the trunk, in memory."""
    detector, classifier = networks(network)
    scales = [classifier.transform.scale_of(*image.shape[-2:]) for image in slices]
    engine = trunk_engine(detector, classifier, precision)
    kept = [kept_form(seen, FORMATS[precision]) for seen in engine.proposed(slices, scales)]
    training = BoxHeadTraining(classifier, precision).train()
    classes = torch.arange(len(slices)) % 3
    return step_of(
        train_classifier(classifier, "s_boxes"), lambda: functional.cross_entropy(training(kept), classes)
    )


def seconds_of(step: Step, device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=["light", "resnet50"], default="resnet50")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    device = training_device()
    slices = list(slices_of_noise(arguments.batch, SIDE).to(device))
    of = arguments.network
    groups: dict[str, dict[str, Step]] = {
        "detector": {
            "slice by slice, float32": detector_step(of, slices, joint=False, amp=False),
            "joint, float32": detector_step(of, slices, joint=True, amp=False),
            "joint, bfloat16": detector_step(of, slices, joint=True, amp=True),
        },
        "classifier": {
            "S, trunk in every step": classifier_step(of, slices, "s", kept=False, amp=False),
            "S, kept rows": classifier_step(of, slices, "s", kept=True, amp=False),
            "S + BN": classifier_step(of, slices, "s_bn", kept=False, amp=False),
            "S + BN, bfloat16": classifier_step(of, slices, "s_bn", kept=False, amp=True),
            "full": classifier_step(of, slices, "full", kept=False, amp=False),
            "full, bfloat16": classifier_step(of, slices, "full", kept=False, amp=True),
        },
    }
    boxes = {"box head + S": classifier_step(of, slices, "s_boxes", kept=False, amp=False)}
    if device.type == "cpu":
        boxes["kept trunk, float32"] = kept_trunk_step(of, slices, Precision.FLOAT32)
        if has_bfloat16():
            boxes["kept trunk, bfloat16"] = kept_trunk_step(of, slices, Precision.BFLOAT16)
    groups["box head"] = boxes
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    print(f"{platform.machine()}, {name}, torch {torch.__version__}, {of}, batch {arguments.batch}")
    print(f"{'network':11} {'side':26} {'slices/s':>9} {'ratio':>7}")
    for group, sides in groups.items():
        times: dict[str, list[float]] = {side: [] for side in sides}
        for step in sides.values():
            seconds_of(step, device)
        for _ in range(arguments.rounds):
            for side, step in sides.items():
                times[side].append(seconds_of(step, device))
        base = times[next(iter(sides))]
        for side, seconds in times.items():
            ratio = statistics.median(b / s for b, s in zip(base, seconds, strict=True))
            print(f"{group:11} {side:26} {arguments.batch / statistics.median(seconds):9.2f} {ratio:7.2f}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
