"""Compiled graphs of one network, and the workers that run slices through them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from torch import nn
from torchvision.models.detection.faster_rcnn import FasterRCNN

from covid_ct_mask_net.engines import graph
from covid_ct_mask_net.engines.base import Precision
from covid_ct_mask_net.engines.cache import GraphCache, network_key
from covid_ct_mask_net.engines.calibration import calibration_phantoms, quantise_box_heads, quantise_trunk
from covid_ct_mask_net.engines.kernels import Pooled
from covid_ct_mask_net.engines.post import ProposalRules, ProposedSlice, SliceRegions, pool_regions, propose
from covid_ct_mask_net.engines.runtime import CORE
from covid_ct_mask_net.networks.settings import DetectorSettings

Floats = NDArray[np.float32]
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# At most so many regions go through the box head together: pooled, they stay in the cache of the processor.
BOX_BATCH = 100
# A batch is computed whole, and most slices have no lesion, one or two.
MASK_BATCH = 1
MULTIPLE = 32
# Sizes of slices whose graphs are kept; a worker takes some 20 MB for each. The crops of a study are of one.
SHAPES_KEPT = 6
# Those of the sizes, and what regions are pooled in.
_BUFFERS_KEPT = SHAPES_KEPT + 4
_HINTS = {Precision.FLOAT32: "f32", Precision.BFLOAT16: "bf16"}


class Program:
    """A graph that every worker compiles for itself.

    OpenVINO computes a graph with one stream in the thread that calls it. With a stream for each worker it
    hands every call to threads of its own; waiting for them to be woken took a fifth of the time.

    Parameters
    ----------
    model : Model
        Of fixed shapes.
    hint : str
        Precision of what is not quantised: ``f32`` or ``bf16``.
    """

    def __init__(self, model: ov.Model, hint: str) -> None:
        self._model = model
        self._settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "NUM_STREAMS": 1,
            # Results do not depend on how many threads there are.
            "INFERENCE_NUM_THREADS": 1,
            # Two graphs would be pinned to the same core.
            "ENABLE_CPU_PINNING": False,
        }
        self.widths = [int(output.shape[1]) for output in model.outputs if len(output.shape) == 2]
        self.outputs = len(model.outputs)

    def request(self) -> ov.InferRequest:
        """Compile the graph once more, for one worker."""
        return CORE.compile_model(self._model, "CPU", self._settings).create_infer_request()


class Compiler:
    """Builds graphs and keeps them in the cache.

    Parameters
    ----------
    precision : Precision
        Of the convolutions of the trunk; int8 is that of the first layer of the box heads too.
    rest : Precision
        Of everything else: float32 or bfloat16.
    cache : GraphCache
    """

    def __init__(self, precision: Precision, rest: Precision, cache: GraphCache) -> None:
        self.precision = precision
        self.rest = rest
        self.cache = cache

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
            return quantise_trunk(model) if self.precision is Precision.INT8 else model

        return self.cache.graph(key, build)

    def box_heads(self, networks: Sequence[FasterRCNN], batch: int, side: int, trunk: Trunk) -> ov.Model:
        """Return the graph of box heads; one of int8 is calibrated on regions that the trunk proposes."""
        model = graph.box_graph(networks, batch)
        if self.precision is not Precision.INT8:
            return model
        # What the regions are like follows from all of the network.
        key = network_key(
            nn.ModuleList(networks),
            "box heads",
            Precision.INT8.value,
            str(batch),
            str(trunk.settings.to_dict()),
        )
        return self.cache.graph(key, lambda: quantise_box_heads(model, trunk.pooled_phantoms(batch, side)))

    def program(self, model: ov.Model, precision: Precision) -> Program:
        """Return a graph as the workers run it."""
        return Program(model, _HINTS.get(precision, _HINTS[self.rest]))


class Worker:
    """Requests and buffers of one thread. What a graph returned holds until the worker runs it again."""

    def __init__(self) -> None:
        # A request goes with its graph.
        self._requests: WeakKeyDictionary[Program, ov.InferRequest] = WeakKeyDictionary()
        self._buffers: dict[tuple[Any, ...], Any] = {}

    def prepare(self, program: Program) -> None:
        """Compile a graph for this worker, if that was not done."""
        if program not in self._requests:
            self._requests[program] = program.request()

    def run(self, program: Program, inputs: Floats | ov.Tensor) -> list[Floats]:
        """Return the outputs of a graph, in order, without copies."""
        self.prepare(program)
        outputs = self._requests[program].infer([inputs], share_inputs=True, share_outputs=True)
        return [outputs[index] for index in range(program.outputs)]

    def buffer(self, *shape: int, kind: type[Any] = np.float32) -> Any:
        """Return this worker's array of a shape and type, as it was left; those used last are kept."""
        return _recent(self._buffers, (kind, *shape), lambda: np.zeros(shape, dtype=kind), _BUFFERS_KEPT)


@dataclass(frozen=True, eq=False)
class BoxHeads:
    """The compiled box heads of networks with the same proposals and bins, for batches of some regions.

    Attributes
    ----------
    program
        Their first layers are one.
    side
        Bins along each axis of a region.
    batch
        Regions that are computed together.
    pooled
        In what regions are pooled: float32, or the bits of bfloat16 as uint16.
    """

    program: Program
    side: int
    batch: int
    pooled: type[np.float32] | type[np.uint16]

    @classmethod
    def of(cls, networks: Sequence[FasterRCNN], compiler: Compiler, trunk: Trunk) -> BoxHeads:
        """Compile the box heads of networks behind a trunk, for batches that its proposals fill."""
        proposals = int(networks[0].rpn.post_nms_top_n())
        batch = -(-proposals // -(-proposals // BOX_BATCH))
        side = int(networks[0].roi_heads.box_roi_pool.output_size[0])
        model = compiler.box_heads(networks, batch, side, trunk)
        pooled: type[np.float32] | type[np.uint16] = np.float32
        if compiler.rest is Precision.BFLOAT16:
            # Pooled in bfloat16: the graph would round to it anyway, after twice the memory was written.
            pooled = np.uint16
            prepared = ov.preprocess.PrePostProcessor(model)
            prepared.input().tensor().set_element_type(ov.Type.bf16)
            model = prepared.build()
        return cls(compiler.program(model, compiler.rest), side, batch, pooled)

    def run(self, worker: Worker, pooled: Pooled) -> list[Floats]:
        """Return class logits and box deltas of each network for a whole batch, without copies."""
        flat = pooled.reshape(self.batch, -1)
        if self.pooled is np.uint16:
            return worker.run(self.program, ov.Tensor(flat, ov.Shape(flat.shape), ov.Type.bf16))
        return worker.run(self.program, flat)


def box_outputs(worker: Worker, seen: ProposedSlice, heads: BoxHeads) -> list[tuple[Floats, Floats]]:
    """Return for each box head class logits (P, C) and box deltas (P, 4 C) of the proposals, pooled once."""
    boxes = seen.proposals
    found = [np.empty((len(boxes), width), np.float32) for width in heads.program.widths]
    pooled = worker.buffer(heads.batch, heads.side**2, seen.features[0].shape[2], kind=heads.pooled)
    for start in range(0, len(boxes), heads.batch):
        part = boxes[start : start + heads.batch]
        pool_regions(seen.features, seen.scales, part, pooled, heads.side)
        for whole, output in zip(found, heads.run(worker, pooled), strict=True):
            whole[start : start + len(part)] = output[: len(part)]
    return list(zip(found[::2], found[1::2], strict=True))


class Trunk:
    """A network's backbone, FPN and RPN, compiled anew for each size of slices; those used last are kept.

    Parameters
    ----------
    network : FasterRCNN
    settings : DetectorSettings
        Of the network.
    compiler : Compiler
    """

    def __init__(self, network: FasterRCNN, settings: DetectorSettings, compiler: Compiler) -> None:
        self.settings = settings
        self._compiler = compiler
        self._model = compiler.trunk(network, settings)
        self._programs: dict[tuple[int, int], Program] = {}
        self._kept = SHAPES_KEPT
        # Slices of two studies may come from two threads.
        self._lock = Lock()
        self._rules = ProposalRules.of(network)

    def program(self, shape: tuple[int, int]) -> Program:
        """Return the graph for resized slices of this shape."""
        padded = _padded(shape)

        def build() -> Program:
            model = self._model.clone()
            model.reshape([1, graph.STEM_CHANNELS, *padded])
            return self._compiler.program(model, self._compiler.precision)

        with self._lock:
            return _recent(self._programs, padded, build, self._kept)

    def programs(self, shapes: Iterable[tuple[int, int]]) -> list[Program]:
        """Return the graphs for the resized slices of a batch; as many as those are kept in any case."""
        sizes = {_padded(shape) for shape in shapes}
        self._kept = max(SHAPES_KEPT, len(sizes))
        return [self.program(size) for size in sorted(sizes)]

    def __call__(self, worker: Worker, image: Floats, heads: BoxHeads) -> list[SliceRegions]:
        """Return the regions of a resized slice (h, w) in [0, 1], as each of the box heads sees them."""
        seen = self.proposed(worker, image)
        return [
            SliceRegions(seen.features, seen.scales, seen.proposals, seen.size, logits, moves)
            for logits, moves in box_outputs(worker, seen, heads)
        ]

    def pooled_phantoms(self, batch: int, side: int) -> Iterator[Floats]:
        """Yield pooled regions (batch, bins * channels) of phantoms: what box heads are calibrated on."""
        worker = Worker()
        for image in calibration_phantoms():
            seen = self.proposed(worker, image)
            pooled = np.zeros((batch, side**2, seen.features[0].shape[2]), np.float32)
            pool_regions(seen.features, seen.scales, seen.proposals[:batch], pooled, side)
            yield pooled.reshape(batch, -1)

    def proposed(self, worker: Worker, image: Floats) -> ProposedSlice:
        """Return feature maps and proposals of a resized slice (h, w) in [0, 1].

        Maps hold until the worker runs the trunk again.
        """
        size = (int(image.shape[0]), int(image.shape[1]))
        padded = _padded(size)
        inputs = worker.buffer(1, graph.STEM_CHANNELS, *padded)
        inputs.fill(0.0)
        inputs[0, 0, : size[0], : size[1]] = image
        inputs[0, 1, : size[0], : size[1]] = 1.0
        outputs = worker.run(self.program(size), inputs)
        levels = len(self._rules.cells)
        features = tuple(outputs[:levels])
        proposals = propose(outputs[levels : 2 * levels], outputs[2 * levels :], self._rules, padded, size)
        scales = tuple(2.0 ** round(float(np.log2(f.shape[0] / size[0]))) for f in features)
        return ProposedSlice(features, scales, proposals, size)


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
        self.program = compiler.program(model, compiler.rest)

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
            (probabilities,) = worker.run(self.program, inputs)
            chosen = labels[start : start + MASK_BATCH]
            masks[start : start + MASK_BATCH, 0] = probabilities[np.arange(len(chosen)), chosen]
        return masks


def _recent(kept: dict[Key, Value], key: Key, build: Callable[[], Value], most: int) -> Value:
    """Return the value of a key, built if it is not kept; of all values those used last are kept."""
    value = kept.pop(key) if key in kept else build()
    # A dictionary is in the order in which its keys came.
    kept[key] = value
    while len(kept) > most:
        del kept[next(iter(kept))]
    return value


def _padded(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the shape that torchvision's detection transform pads a slice to."""
    return -(-shape[0] // MULTIPLE) * MULTIPLE, -(-shape[1] // MULTIPLE) * MULTIPLE
