"""Slices a second of COVID-CT-Mask-Net on a GPU: what batching on the device, AMP and pinned copies give.

    python benchmarks/gpu.py                          on a CUDA machine
    python benchmarks/gpu.py --device cpu --size 64 --batch 2 --slices 4 --rounds 1      a trial without one

Needs torch, torchvision, numpy and monai, nothing compiled: it runs from a checkout, installed or not.
Weights are random and slices are noise on an ellipse: it measures time, and says where an answer differs from
the first.

Sides are the engines of the product, copies to and from the device included: ``torch`` (float32, RPN and NMS
slice by slice), ``exact`` (float32, a batch in one pass) and ``fast`` (bfloat16, the same). ``pinned`` starts
from memory that the device reads by itself, ``compiled`` puts the backbone of ``fast`` through torch.compile,
with CUDA graphs. No mask is computed: no score reaches the threshold.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]


def make_importable() -> None:
    """Let the package be imported from the folders of a checkout where it is not installed."""
    name = "covid_ct_mask_net"
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        sys.path.insert(0, str(ROOT / "bundle"))
        package = types.ModuleType("covid_ct_mask_net.transforms")
        package.__path__ = [str(ROOT / "transforms")]
        importlib.import_module(name)
        sys.modules[package.__name__] = package


def slices_of_noise(count: int, size: int) -> Tensor:
    """Return slices (n, 1, size, size) in [0, 1] in ordinary memory."""
    generator = torch.Generator().manual_seed(1)
    axis = torch.linspace(-1, 1, size)
    body = ((axis[None] / 0.9) ** 2 + (axis[:, None] / 0.7) ** 2 < 1).float()
    coarse = torch.rand(count, 1, 12, 12, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return (body * smooth * 0.8 + 0.2 * torch.rand(count, 1, size, size, generator=generator)).clamp(0, 1)


def measure(run: Callable[[], Tensor], rounds: int) -> tuple[float, Tensor]:
    """Return seconds of the median round and the logits; the first round is not counted."""
    logits = run()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), logits


def engines(arguments: argparse.Namespace, device: torch.device) -> dict[str, torch.nn.Module]:
    """Return the engines, each with networks of its own, all of the same random weights."""
    make_importable()
    package = "covid_ct_mask_net"
    checkpoints = importlib.import_module(f"{package}.checkpoints")
    settings = importlib.import_module(f"{package}.networks.settings")
    select = importlib.import_module(f"{package}.engines.select")
    batched = importlib.import_module(f"{package}.engines.batched")
    light = arguments.network == "light"
    detector = settings.light_detector_settings if light else settings.DetectorSettings
    head = settings.light_classifier_settings if light else settings.ClassifierSettings

    def networks() -> tuple[torch.nn.Module, torch.nn.Module]:
        model = checkpoints.untrained_model(detector(image_min_size=arguments.size), head(), 1)
        return model.detector, model.classifier

    sides = {"torch": select.build_engine(*networks(), 1.0, name="torch", device=device)}
    # Not by name: on a CPU, names mean the engines of a CPU.
    for name in ("exact", "fast"):
        sides[name] = batched.BatchedEngine(*networks(), 1.0, name=batched.EngineName(name), device=device)
    if arguments.compile:
        engine = batched.BatchedEngine(*networks(), 1.0, name=batched.EngineName.FAST, device=device)
        for network in (engine.detector, engine.classifier):
            network.backbone.compile(mode="reduce-overhead")
        sides["fast, compiled"] = engine
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--network", choices=["light", "resnet50"], default="resnet50")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile of the backbone too")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no CUDA GPU; --device cpu tries the program without one.")
    slices = slices_of_noise(arguments.slices, arguments.size)
    pinned = slices.pin_memory() if device.type == "cuda" else slices
    built = engines(arguments, device)
    sides = {title: (engine, slices) for title, engine in built.items()}
    sides["fast, pinned"] = (built["fast"], pinned)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {arguments.network}, {arguments.size} x {arguments.size}")
    print(f"{'side':16} {'batch':>5} {'slices/s':>9} {'same class':>10} {'median |d logit|':>17}")
    reference = None
    for batch in arguments.batch:
        for title, (engine, source) in sides.items():

            def batches(engine=engine, source=source, batch=batch) -> Tensor:  # type: ignore[no-untyped-def]
                parts = source.split(batch)
                found = [one for part in parts for one in engine(part.to(device, non_blocking=True))]
                return torch.stack([one.logits for one in found]).cpu()

            seconds, logits = measure(batches, arguments.rounds)
            reference = logits if reference is None else reference
            same = int((logits.argmax(1) == reference.argmax(1)).sum())
            away = float((logits - reference).abs().amax(1).median())
            rate = arguments.slices / seconds
            print(f"{title:16} {batch:5} {rate:9.1f} {same:6}/{arguments.slices} {away:17.1e}", flush=True)


if __name__ == "__main__":
    main()
