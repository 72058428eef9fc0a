"""Slices a second by engine and against the paper's loop, all in one process, interleaved.

    python benchmarks/engines.py --network light --slices 4 --rounds 3
    python benchmarks/engines.py --network resnet50 --engines original exact int8 int8+crop
    python benchmarks/engines.py --network shipped

``shipped`` is the bundle's model with its weights and settings (slices reduced to 320 pixels, 300 regions);
``light`` and ``resnet50`` have random weights and the settings of the paper's code (512 pixels, 1000
regions). Slices are phantoms: this measures time, and agreement on phantoms, not accuracy. No side computes
masks. The crop is 352 x 288 pixels, a lung box of a typical adult at 0.7 mm, at the scale of the whole slice.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from original import OriginalLoop
from torch import Tensor

from covid_ct_mask_net.checkpoints import Model, load_model, untrained_model
from covid_ct_mask_net.engines.base import has_bfloat16
from covid_ct_mask_net.engines.calibration import phantoms
from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.networks.settings import (
    ClassifierSettings,
    DetectorSettings,
    light_classifier_settings,
    light_detector_settings,
)

SHIPPED = Path(__file__).resolve().parents[1] / "bundle" / "models" / "model.pt"
SIDE = 512
ROWS, COLUMNS = slice(80, 432), slice(112, 400)
# No score lies above 1: no masks.
NO_MASKS = 1.01
CHOICES: dict[str, dict[str, str]] = {
    "torch": {"name": "torch"},
    "exact": {"name": "exact"},
    "bfloat16": {"name": "fast", "precision": "bfloat16"},
    "int8": {"name": "fast", "precision": "int8"},
}
Side = Callable[[Tensor], Tensor]


def networks(network: str) -> Model:
    if network == "shipped":
        return load_model(SHIPPED, manifest_required=True)
    light = network == "light"
    return untrained_model(
        light_detector_settings() if light else DetectorSettings(),
        light_classifier_settings() if light else ClassifierSettings(),
        1,
    )


def sides(model: Model, names: list[str], cache: str) -> dict[str, Side]:
    """Return what each name stands for, from slices to logits."""
    if model.detector is None or model.classifier is None:
        sys.exit("The model lacks a network.")
    scale = model.classifier.transform.scale_of(SIDE, SIDE)
    built: dict[str, Side] = {}
    engines = {}
    for name in names:
        base, _, crop = name.partition("+")
        if base == "original":
            built[name] = OriginalLoop(model.classifier)
            continue
        if base not in engines:
            engines[base] = build_engine(
                model.detector, model.classifier, NO_MASKS, cache=cache, **CHOICES[base]
            )
        engine = engines[base]

        def run(slices: Tensor, engine=engine, crop=crop) -> Tensor:  # type: ignore[no-untyped-def]
            if crop:
                slices = slices[:, :, ROWS, COLUMNS]
            return torch.stack([output.logits for output in engine(slices, [scale] * len(slices))])

        built[name] = run
    return built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--network", choices=["shipped", "light", "resnet50"], default="light")
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", default="none", help="folder for compiled graphs")
    default = [
        "original",
        "exact",
        *(["bfloat16"] if has_bfloat16() else []),
        "int8",
        "exact+crop",
        "int8+crop",
    ]
    parser.add_argument(
        "--engines", nargs="+", default=default, metavar="NAME", help=" ".join([*default, "torch"])
    )
    arguments = parser.parse_args()
    slices = torch.stack([torch.from_numpy(image)[None] for image in phantoms(arguments.slices, 1)])
    runs = sides(networks(arguments.network), arguments.engines, arguments.cache)
    logits = {title: run(slices) for title, run in runs.items()}
    seconds: dict[str, list[float]] = {title: [] for title in runs}
    processor: dict[str, list[float]] = {title: [] for title in runs}
    for _ in range(arguments.rounds):
        for title, run in runs.items():
            start, used = time.perf_counter(), time.process_time()
            run(slices)
            seconds[title].append(time.perf_counter() - start)
            processor[title].append(time.process_time() - used)
    first = next(iter(runs))
    reference = statistics.median(seconds[first])
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "torchvision", "openvino", "numba")
    )
    print(
        f"{arguments.network}, {arguments.slices} slices of 512 x 512, median of {arguments.rounds} rounds; "
        f"{torch.get_num_threads()} threads, {platform.machine()}, {versions}"
    )
    print("CPU ms: processor time of a slice, all threads, which other work on the machine changes least")
    print(
        f"{'engine':14} {'slices/s':>8} {'x ' + first:>10} {'CPU ms':>8} {'same class':>10} "
        f"{'median |d logit|':>17}"
    )
    for title, taken in seconds.items():
        median = statistics.median(taken)
        away = (logits[title] - logits[first]).abs().amax(1)
        same = int((logits[title].argmax(1) == logits[first].argmax(1)).sum())
        print(
            f"{title:14} {arguments.slices / median:8.2f} {reference / median:10.2f} "
            f"{1000 * statistics.median(processor[title]) / arguments.slices:8.1f} "
            f"{f'{same}/{arguments.slices}':>10} {float(away.median()):17.1e}"
        )


if __name__ == "__main__":
    main()
