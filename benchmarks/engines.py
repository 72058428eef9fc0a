"""Slices a second by engine: all engines in one process, interleaved, as ratios to torch.

    python benchmarks/engines.py --network light --slices 4 --rounds 3

Weights are random and slices are phantoms: this measures time, not accuracy.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from covid_ct_mask_net.checkpoints import untrained_model
from covid_ct_mask_net.engines.base import Engine, has_bfloat16
from covid_ct_mask_net.engines.calibration import phantoms
from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.networks.settings import (
    ClassifierSettings,
    DetectorSettings,
    light_classifier_settings,
    light_detector_settings,
)


def engines(network: str) -> dict[str, Engine]:
    light = network == "light"
    model = untrained_model(
        light_detector_settings() if light else DetectorSettings(),
        light_classifier_settings() if light else ClassifierSettings(),
        1,
    )
    names = {"torch": {"name": "torch"}, "exact": {"name": "exact"}}
    if has_bfloat16():
        names["fast, bfloat16"] = {"name": "fast", "precision": "bfloat16"}
    # No detection reaches 0.99 untrained: masks are left out on all sides.
    return {
        title: build_engine(model.detector, model.classifier, 0.99, cache="none", **choice)
        for title, choice in names.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--network", choices=["light", "resnet50"], default="light")
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    slices = torch.stack([torch.from_numpy(image)[None] for image in phantoms(arguments.slices, 1)])
    sides = engines(arguments.network)
    for engine in sides.values():
        engine(slices[:1])
    seconds: dict[str, list[float]] = {title: [] for title in sides}
    for _ in range(arguments.rounds):
        for title, engine in sides.items():
            start = time.perf_counter()
            engine(slices)
            seconds[title].append(time.perf_counter() - start)
    reference = statistics.median(seconds["torch"])
    print(f"{arguments.network}, {arguments.slices} slices of 512 x 512, median of {arguments.rounds} rounds")
    for title, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{title:16} {arguments.slices / median:6.2f} slices/s   {reference / median:5.2f} x torch")


if __name__ == "__main__":
    main()
