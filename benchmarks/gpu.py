"""Slices a second of COVID-CT-Mask-Net on a GPU: what batching on the device, AMP and pinned copies give.

    python benchmarks/gpu.py                          on a CUDA machine
    python benchmarks/gpu.py --device cpu --size 64 --batch 2 --slices 4 --rounds 1      a trial without one

Needs torch, torchvision, numpy and monai, nothing compiled: it runs from a checkout, installed or not.
Weights are random and slices are noise on an ellipse: it measures time, and says where an answer differs from
the first.

Sides: ``torch`` is the engine of the product: float32, batched trunk, torchvision's RPN and NMS image by
image. ``TF32`` is what cuDNN computes if it is not told otherwise, as the following sides do too. ``batched``
is one pass for all slices of a batch without a Python loop: top-k, decoding and exact NMS of all (slice,
level) pairs at once on the device. NMS is iterated: boxes sorted, a matrix M of the pairs that overlap too
much, and kept = not any(M kept) until nothing changes, which is the greedy answer.
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
from torchvision.ops import box_iou, clip_boxes_to_image

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


def greedy_nms(boxes: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Return which boxes (G, n, 4), best first in each group, greedy NMS keeps, as bool (G, n).

    A box is dropped by a better one that is kept itself. Starting with all, keep = valid and not dropped by
    any kept one is repeated until it stays: position i is right after i rounds at the latest.
    """
    count = boxes.shape[1]
    worse = torch.ones(count, count, dtype=torch.bool, device=boxes.device).triu(1)
    overlaps = torch.stack([box_iou(group, group) for group in boxes]) > threshold
    # [g, i, j]: j is worse than i and overlaps it too much.
    drops = (overlaps & worse).float()
    keep = valid.clone()
    while True:
        dropped = torch.bmm(keep.float()[:, None], drops)[:, 0] > 0
        following = valid & ~dropped
        if torch.equal(following, keep):
            return keep
        keep = following


class Batched:
    """A classifier without loops over the slices of a batch."""

    def __init__(self, classifier: torch.nn.Module, *, amp: bool, compiled: bool) -> None:
        self.network = classifier
        self.amp = amp
        self.trunk = torch.compile(self._trunk) if compiled else self._trunk

    @torch.inference_mode()
    def __call__(self, slices: Tensor) -> Tensor:
        """Return logits (B, 3) of slices (B, 1, H, W) of one size that needs no resizing."""
        network = self.network
        size = (int(slices.shape[-2]), int(slices.shape[-1]))
        with torch.autocast(slices.device.type, torch.bfloat16, enabled=self.amp):
            features, objectness, deltas = self.trunk(slices)
        proposals, counts = self._proposals(
            [o.float() for o in objectness], [d.float() for d in deltas], size
        )
        heads = network.roi_heads
        per_slice = list(proposals)
        with torch.autocast(slices.device.type, torch.bfloat16, enabled=self.amp):
            pooled = heads.box_roi_pool(features, per_slice, [size] * len(slices))
            logits, encoded = heads.box_predictor(heads.box_head(pooled))
        rows = self._rows(logits.float(), encoded.float(), proposals, counts, size)
        logits_of_slices: Tensor = network.s(rows)
        return logits_of_slices

    def _trunk(self, slices: Tensor) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        network = self.network
        mean = torch.tensor(network.transform.image_mean, device=slices.device)[:, None, None]
        std = torch.tensor(network.transform.image_std, device=slices.device)[:, None, None]
        images = ((slices - mean) / std).contiguous(memory_format=torch.channels_last)
        features = network.backbone(images)
        objectness, deltas = network.rpn.head(list(features.values()))
        return {name: map_.float() for name, map_ in features.items()}, objectness, deltas

    def _proposals(
        self, objectness: list[Tensor], deltas: list[Tensor], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return proposals (B, P, 4), best first and padded, and how many of each slice are real."""
        rpn = self.network.rpn
        most, batch = rpn.pre_nms_top_n(), len(objectness[0])
        boxes, scores = [], []
        for cells, logits, moves in zip(rpn.anchor_generator.cell_anchors, objectness, deltas, strict=True):
            _, anchors_per_cell, height, width = logits.shape
            flat = logits.permute(0, 2, 3, 1).reshape(batch, -1)
            moves = moves.view(batch, anchors_per_cell, 4, height, width).permute(0, 3, 4, 1, 2)
            best, places = flat.topk(min(most, flat.shape[1]), dim=1)
            stride = torch.tensor([size[1] // width, size[0] // height] * 2, device=flat.device)
            cell, place = places % anchors_per_cell, places // anchors_per_cell
            corner = torch.stack([place % width, place // width] * 2, dim=-1) * stride
            anchors = cells.to(flat.device)[cell] + corner
            chosen = moves.reshape(batch, -1, 4).gather(1, places[..., None].expand(-1, -1, 4))
            decoded = rpn.box_coder.decode_single(chosen.reshape(-1, 4), anchors.reshape(-1, 4))
            decoded = clip_boxes_to_image(decoded.reshape(-1, 4), size).reshape(batch, -1, 4)
            kept = greedy_nms(decoded, torch.ones_like(best, dtype=torch.bool), rpn.nms_thresh)
            boxes.append(decoded)
            scores.append(best.masked_fill(~kept, -torch.inf))
        all_boxes, all_scores = torch.cat(boxes, 1), torch.cat(scores, 1)
        best, places = all_scores.topk(min(rpn.post_nms_top_n(), all_scores.shape[1]), dim=1)
        return all_boxes.gather(1, places[..., None].expand(-1, -1, 4)), (best > -torch.inf).sum(1)

    def _rows(
        self, logits: Tensor, encoded: Tensor, proposals: Tensor, counts: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Return the ranked rows (B, N, 5)."""
        network, (batch, most, _) = self.network, proposals.shape
        heads, wanted = network.roi_heads, network.settings.regions
        real = torch.arange(most, device=logits.device)[None] < counts[:, None]
        scores = torch.softmax(logits, -1).reshape(batch, most, -1)
        encoded = encoded.reshape(batch, most, -1, 4)
        boxes = heads.box_coder.decode(encoded.reshape(batch * most, -1), [proposals.reshape(-1, 4)])
        boxes = clip_boxes_to_image(boxes.reshape(-1, 4), size).reshape(batch, most, -1, 4)
        found_scores, found_rows = [], []
        for label in range(1, scores.shape[-1]):
            order = (
                scores[..., label].masked_fill(~real, -torch.inf).argsort(dim=1, descending=True, stable=True)
            )
            box = boxes[:, :, label].gather(1, order[..., None].expand(-1, -1, 4))
            score = scores[..., label].gather(1, order)
            area = (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
            kept = greedy_nms(box, real.gather(1, order) & (area > 0), heads.nms_thresh)
            found_scores.append(score.masked_fill(~kept, -torch.inf))
            row = encoded[:, :, label].gather(1, order[..., None].expand(-1, -1, 4))
            found_rows.append(torch.cat([score[..., None], row], dim=-1))
        all_scores, rows = torch.cat(found_scores, 1), torch.cat(found_rows, 1)
        best, places = all_scores.topk(wanted, dim=1)
        found = (best > -torch.inf).sum(1, keepdim=True).clamp(min=1)
        # Fewer regions than rows: stretched over them, as the product does.
        stretched = places.gather(1, torch.arange(wanted, device=places.device)[None] * found // wanted)
        return rows.gather(1, stretched[..., None].expand(-1, -1, 5))


def slices_of_noise(count: int, size: int) -> Tensor:
    """Return slices (n, 1, size, size) in [0, 1] in ordinary memory."""
    generator = torch.Generator().manual_seed(1)
    axis = torch.linspace(-1, 1, size)
    body = ((axis[None] / 0.9) ** 2 + (axis[:, None] / 0.7) ** 2 < 1).float()
    coarse = torch.rand(count, 1, 12, 12, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return (body * smooth * 0.8 + 0.2 * torch.rand(count, 1, size, size, generator=generator)).clamp(0, 1)


def measure(
    run: Callable[[Tensor], Tensor], slices: Tensor, device: torch.device, rounds: int
) -> tuple[float, Tensor]:
    """Return seconds of the median round, copies to and from the device included, and the logits."""

    def once() -> Tensor:
        return run(slices.to(device, non_blocking=True)).cpu()

    logits = once()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), logits


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
    parser.add_argument("--compile", action="store_true", help="torch.compile of the trunk too")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no CUDA GPU; --device cpu tries the program without one.")
    make_importable()
    checkpoints = importlib.import_module("covid_ct_mask_net.checkpoints")
    settings = importlib.import_module("covid_ct_mask_net.networks.settings")
    light = arguments.network == "light"
    detector = settings.light_detector_settings if light else settings.DetectorSettings
    head = settings.light_classifier_settings if light else settings.ClassifierSettings
    classifier = checkpoints.untrained_model(detector(image_min_size=arguments.size), head(), 1).classifier
    classifier = classifier.to(device).eval()
    slices = slices_of_noise(arguments.slices, arguments.size)
    pinned = slices.pin_memory() if device.type == "cuda" else slices

    @torch.inference_mode()
    def engine(batch: Tensor) -> Tensor:
        return classifier(batch)  # type: ignore[no-any-return]

    def strict(batch: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return engine(batch)

    sides: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
        "torch": (strict, slices),
        "torch, TF32": (engine, slices),
        "torch, pinned": (strict, pinned),
        "batched": (Batched(classifier, amp=False, compiled=False), pinned),
        "batched, bf16": (Batched(classifier, amp=True, compiled=False), pinned),
    }
    if arguments.compile:
        sides["batched, bf16, compiled"] = (Batched(classifier, amp=True, compiled=True), pinned)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {arguments.network}, {arguments.size} x {arguments.size}")
    print(f"{'side':24} {'batch':>5} {'slices/s':>9} {'same class':>10} {'median |d logit|':>17}")
    reference = None
    for batch in arguments.batch:
        for title, (run, source) in sides.items():

            def batches(_: Tensor, run=run, source=source, batch=batch) -> Tensor:  # type: ignore[no-untyped-def]
                parts = [run(part.to(device, non_blocking=True)) for part in source.split(batch)]
                return torch.cat(parts)

            seconds, logits = measure(batches, slices[:0], device, arguments.rounds)
            reference = logits if reference is None else reference
            same = int((logits.argmax(1) == reference.argmax(1)).sum())
            away = float((logits - reference).abs().amax(1).median())
            rate = arguments.slices / seconds
            print(f"{title:24} {batch:5} {rate:9.1f} {same:6}/{arguments.slices} {away:17.1e}")


if __name__ == "__main__":
    main()
