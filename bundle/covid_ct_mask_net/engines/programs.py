"""Compiled graphs of one network, and the workers that run slices through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from torch import nn
from torchvision.models.detection.faster_rcnn import FasterRCNN

from covid_ct_mask_net.engines import graph
from covid_ct_mask_net.engines.base import Precision
from covid_ct_mask_net.engines.cache import GraphCache, network_key
from covid_ct_mask_net.engines.post import ProposalRules, SliceRegions, pool_regions, propose
from covid_ct_mask_net.networks.settings import DetectorSettings

Floats = NDArray[np.float32]
Quantise = Callable[[ov.Model, ov.Core], ov.Model]

# At most so many regions go through the box head together: pooled, they stay in the cache of the processor.
BOX_BATCH = 100
# A batch is computed whole, and most slices have no lesion, one or two.
MASK_BATCH = 1
MULTIPLE = 32
_HINTS = {Precision.FLOAT32: "f32", Precision.BFLOAT16: "bf16"}


class Compiler:
    """Builds graphs, keeps them in the cache and compiles them with one stream a worker.

    Parameters
    ----------
    precision : Precision
        Of the convolutions of the trunk.
    rest : Precision
        Of all other graphs: float32 or bfloat16.
    workers : int
        Slices computed at a time; each by one thread, so that results do not depend on their number.
    cache : GraphCache
    quantise : callable, optional
        From a float32 trunk to an int8 one; for precision int8.
    """

    def __init__(
        self,
        precision: Precision,
        rest: Precision,
        workers: int,
        cache: GraphCache,
        quantise: Quantise | None = None,
    ) -> None:
        self.precision = precision
        self.rest = rest
        self.workers = workers
        self.cache = cache
        self.quantise = quantise
        self.core = ov.Core()

    def trunk(self, network: FasterRCNN, settings: DetectorSettings) -> ov.Model:
        """Return the graph of backbone, FPN and RPN head, its height and width open."""
        stored = Precision.INT8 if self.precision is Precision.INT8 else Precision.FLOAT32
        key = network_key(
            nn.ModuleList([network.backbone, network.rpn.head]),
            "trunk",
            stored.value,
            str(settings.to_dict()),
        )

        def build() -> ov.Model:
            model = graph.trunk_graph(network)
            return self.quantise(model, self.core) if self.quantise is not None else model

        return self.cache.graph(key, build, self.core)

    def compile(self, model: ov.Model, precision: Precision) -> ov.CompiledModel:
        """Return a graph compiled for the workers."""
        return self.core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS.get(precision, _HINTS[self.rest]),
                "NUM_STREAMS": self.workers,
                "INFERENCE_NUM_THREADS": self.workers,
                # Streams of several graphs would be pinned to the same core.
                "ENABLE_CPU_PINNING": False,
            },
        )


class Worker:
    """Requests and buffers of one thread. What a graph returned holds until the worker runs it again."""

    def __init__(self) -> None:
        self._requests: dict[int, ov.InferRequest] = {}
        self._buffers: dict[tuple[int, ...], Floats] = {}

    def run(self, program: ov.CompiledModel, inputs: Floats) -> list[Floats]:
        """Return the outputs of a graph, in order, without copies."""
        request = self._requests.get(id(program))
        if request is None:
            request = self._requests.setdefault(id(program), program.create_infer_request())
        outputs = request.infer([inputs], share_inputs=True, share_outputs=True)
        return [outputs[index] for index in range(len(program.outputs))]

    def buffer(self, *shape: int) -> Floats:
        """Return this worker's array of a shape; what was in it stays."""
        return self._buffers.setdefault(shape, np.zeros(shape, dtype=np.float32))


@dataclass(frozen=True, eq=False)
class BoxHead:
    """The compiled box head of a network, for batches of some regions."""

    program: ov.CompiledModel
    side: int
    batch: int

    @classmethod
    def of(cls, network: FasterRCNN, compiler: Compiler) -> BoxHead:
        """Compile the box head of a network, for batches that its proposals fill."""
        proposals = int(network.rpn.post_nms_top_n())
        batch = -(-proposals // -(-proposals // BOX_BATCH))
        return cls(
            compiler.compile(graph.box_graph(network, batch), compiler.rest),
            int(network.roi_heads.box_roi_pool.output_size[0]),
            batch,
        )


def box_outputs(
    worker: Worker,
    features: tuple[Floats, ...],
    scales: tuple[float, ...],
    boxes: Floats,
    heads: Sequence[BoxHead],
) -> list[tuple[Floats, Floats]]:
    """Return for each box head class logits (P, C) and box deltas (P, 4 C) of boxes (P, 4), pooled once.

    The heads are of networks with the same proposals and bins.
    """
    batch, side = heads[0].batch, heads[0].side
    found: list[tuple[list[Floats], list[Floats]]] = [([], []) for _ in heads]
    pooled = worker.buffer(batch, side**2, features[0].shape[2])
    for start in range(0, len(boxes), batch):
        part = boxes[start : start + batch]
        pool_regions(features, scales, part, pooled, side)
        for head, (logits, deltas) in zip(heads, found, strict=True):
            scores, moves = worker.run(head.program, pooled.reshape(batch, -1))
            logits.append(scores[: len(part)].copy())
            deltas.append(moves[: len(part)].copy())
    if not len(boxes):
        classes = [int(head.program.output(0).shape[1]) for head in heads]
        return [(np.zeros((0, c), np.float32), np.zeros((0, 4 * c), np.float32)) for c in classes]
    return [(np.concatenate(logits), np.concatenate(deltas)) for logits, deltas in found]


class Trunk:
    """A network's backbone, FPN and RPN, compiled anew for each size of slices.

    Parameters
    ----------
    network : FasterRCNN
    settings : DetectorSettings
        Of the network.
    compiler : Compiler
    """

    def __init__(self, network: FasterRCNN, settings: DetectorSettings, compiler: Compiler) -> None:
        self._compiler = compiler
        self._model = compiler.trunk(network, settings)
        self._programs: dict[tuple[int, int], ov.CompiledModel] = {}
        self._rules = ProposalRules.of(network)

    def prepare(self, shape: tuple[int, int]) -> None:
        """Compile for resized slices of this shape; before workers call."""
        padded = _padded(shape)
        if padded not in self._programs:
            model = self._model.clone()
            model.reshape([1, graph.STEM_CHANNELS, *padded])
            self._programs[padded] = self._compiler.compile(model, self._compiler.precision)

    def __call__(self, worker: Worker, image: Floats, *heads: BoxHead) -> list[SliceRegions]:
        """Return the regions of a resized slice (h, w) in [0, 1], as each of the box heads sees them."""
        size = (int(image.shape[0]), int(image.shape[1]))
        padded = _padded(size)
        inputs = worker.buffer(1, graph.STEM_CHANNELS, *padded)
        inputs.fill(0.0)
        inputs[0, 0, : size[0], : size[1]] = image
        inputs[0, 1, : size[0], : size[1]] = 1.0
        outputs = worker.run(self._programs[padded], inputs)
        levels = len(self._rules.cells)
        features = tuple(outputs[:levels])
        proposals = propose(outputs[levels : 2 * levels], outputs[2 * levels :], self._rules, padded, size)
        scales = tuple(2.0 ** round(float(np.log2(f.shape[0] / size[0]))) for f in features)
        return [
            SliceRegions(features, scales, proposals, logits, moves, size)
            for logits, moves in box_outputs(worker, features, scales, proposals, heads)
        ]


class MaskBranch:
    """The compiled mask branch of the detector.

    Parameters
    ----------
    heads : module
        RoI heads of the lesion detector.
    compiler : Compiler
    """

    def __init__(self, heads: Any, compiler: Compiler) -> None:
        self._side = int(heads.mask_roi_pool.output_size[0])
        model = graph.mask_graph(heads.mask_head, heads.mask_predictor, MASK_BATCH, self._side)
        self._program = compiler.compile(model, compiler.rest)

    def __call__(
        self, worker: Worker, regions: SliceRegions, boxes: Floats, labels: NDArray[np.int64]
    ) -> Floats:
        """Return mask probabilities (n, 1, 28, 28) of detections, each for its own class."""
        masks = np.zeros((len(boxes), 1, 2 * self._side, 2 * self._side), dtype=np.float32)
        pooled = worker.buffer(MASK_BATCH, self._side**2, regions.features[0].shape[2])
        for start in range(0, len(boxes), MASK_BATCH):
            part = boxes[start : start + MASK_BATCH]
            pool_regions(regions.features, regions.scales, part, pooled, self._side)
            inputs = pooled.reshape(MASK_BATCH, self._side, self._side, -1)
            (probabilities,) = worker.run(self._program, inputs)
            chosen = labels[start : start + MASK_BATCH]
            masks[start : start + MASK_BATCH, 0] = probabilities[np.arange(len(chosen)), chosen]
        return masks


def _padded(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the shape that torchvision's detection transform pads a slice to."""
    return -(-shape[0] // MULTIPLE) * MULTIPLE, -(-shape[1] // MULTIPLE) * MULTIPLE
