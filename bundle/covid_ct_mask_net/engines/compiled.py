"""The engines of a CPU: the networks compiled by OpenVINO, with compiled kernels behind them.

Slices are computed one a worker, each worker with one thread: results are the same to the bit in any batch,
in any order and with any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Lock
from typing import TypeVar

import numpy as np
import openvino as ov
import torch
from torch import Tensor

from covid_ct_mask_net.engines import graph
from covid_ct_mask_net.engines.base import FAST_NOTE, Engine, EngineName, Precision
from covid_ct_mask_net.engines.cache import GraphCache
from covid_ct_mask_net.engines.post import (
    BoxRules,
    Floats,
    ProposedSlice,
    SliceRegions,
    detections,
    rank_rows,
)
from covid_ct_mask_net.engines.programs import BoxHeads, Compiler, MaskBranch, Program, Trunk, Worker
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.finite import all_finite
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.maskness import score_by_masks
from covid_ct_mask_net.networks.slice_model import Shared, SliceOutput
from covid_ct_mask_net.networks.slice_transform import rescaled
from covid_ct_mask_net.results import EngineReport

Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class _Programs:
    """Everything compiled for the weights as they are.

    ``box_heads`` are those behind ``trunk``: the classifier's, and the detector's where it is another on
    the same trunk. ``own`` are trunk and box head of a detector that shares nothing.
    """

    trunk: Trunk
    box_heads: BoxHeads
    s: Program
    masks: MaskBranch
    own: tuple[Trunk, BoxHeads] | None

    def all(self, shapes: Iterable[tuple[int, int]]) -> list[Program]:
        """Return all graphs that slices need which are resized to these shapes."""
        parts = [(self.trunk, self.box_heads), *([] if self.own is None else [self.own])]
        wanted = set(shapes)
        trunks = [program for trunk, _ in parts for program in trunk.programs(wanted)]
        return [*trunks, *(heads.program for _, heads in parts), self.s, self.masks.program]


class CompiledEngine(Engine):
    """Both networks compiled for this processor.

    Parameters
    ----------
    detector, classifier
        The networks, in test mode, on the CPU.
    min_score : float
        Detections below are not outlined.
    name : EngineName
        ``exact`` or ``fast``.
    precision : Precision
        Of the trunk and the first layer of the box heads; of the rest too, but for int8.
    rest : Precision
        Float32 or bfloat16.
    workers : int
        Slices computed at a time.
    cache : GraphCache
    """

    def __init__(
        self,
        detector: LesionDetector,
        classifier: CovidCTMaskNet,
        min_score: float,
        *,
        name: EngineName,
        precision: Precision,
        rest: Precision,
        workers: int,
        cache: GraphCache,
    ) -> None:
        super().__init__(detector, classifier, min_score)
        self.eval()
        self._compiler = Compiler(precision, rest, cache)
        self._workers: list[Worker] = []
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="slices") if workers > 1 else None
        self._worker_count = workers
        self._compiled: _Programs | None = None
        self._compiled_for: tuple[object, ...] = ()
        self._compiling = Lock()
        note = FAST_NOTE if name is EngineName.FAST else ""
        self.report = EngineReport(name.value, precision.value, "cpu", f"OpenVINO {ov.__version__}", note)

    def forward(
        self, slices: Tensor | Sequence[Tensor], scales: Sequence[float] | None = None
    ) -> list[SliceOutput]:
        """Return one output a slice, in order; as `SliceModel`."""
        if self.training:
            raise RuntimeError("Engines work in test mode only; call eval() first.")
        return self._map(self._slice, slices, scales)

    def warm(self) -> None:
        """Build what is compiled for the weights, and for whole slices of the usual size.

        May go on in a thread of its own: a slice that comes earlier waits for it.
        """
        side = int(self.classifier.transform.min_size[-1])
        self._prepared([(side, side)])

    def rows(self, slices: Tensor | Sequence[Tensor], scales: Sequence[float] | None = None) -> Tensor:
        """Return the ranked rows (B, N, 5) that S reads; what mode S trains on and may keep."""
        return torch.stack(self._map(self._slice_rows, slices, scales))

    def proposed(
        self, slices: Tensor | Sequence[Tensor], scales: Sequence[float] | None = None
    ) -> list[ProposedSlice]:
        """Return feature maps and proposals of slices: what box heads read, and what training may keep."""
        return self._map(self._slice_proposed, slices, scales)

    def _map(
        self,
        step: Callable[[_Programs, Worker, Tensor, float], Answer],
        slices: Tensor | Sequence[Tensor],
        scales: Sequence[float] | None,
    ) -> list[Answer]:
        """Return what a step gives for each slice, computed by the workers."""
        images = [image.detach().cpu().float() for image in slices]
        transform = self.classifier.transform
        factors = [transform.scale_of(*i.shape[-2:]) for i in images] if scales is None else list(scales)
        programs = self._prepared(
            transform.resized_shape(image.shape[-2], image.shape[-1], factor)
            for image, factor in zip(images, factors, strict=True)
        )

        def run(image: Tensor, factor: float) -> Answer:
            worker = self._idle.get()
            try:
                return step(programs, worker, image, factor)
            finally:
                self._idle.put(worker)

        if self._threads is None:
            return [run(image, factor) for image, factor in zip(images, factors, strict=True)]
        return list(self._threads.map(run, images, factors))

    def _prepared(self, shapes: Iterable[tuple[int, int]]) -> _Programs:
        """Return what is compiled for the weights and for resized slices of these shapes."""
        with self._compiling:
            programs = self._programs()
            graphs = programs.all(shapes)

            def prepare(worker: Worker) -> None:
                for program in graphs:
                    worker.prepare(program)

            list(
                map(prepare, self._workers)
                if self._threads is None
                else self._threads.map(prepare, self._workers)
            )
        return programs

    def _programs(self) -> _Programs:
        """Return what is compiled for the weights; anew whenever one has changed."""
        shared = self.shared
        state = (shared, self._compared)
        if self._compiled is None or state != self._compiled_for:
            if not all_finite(self.state_dict().values()):
                # A compiled ReLU turns what is no number into zero, and the answer would look sound.
                raise NotAssessableError(
                    "MODEL_NON_FINITE", "The networks hold weights that are not numbers; they are unusable."
                )
            compiler = self._compiler
            classifier, detector = self.classifier, self.detector
            trunk = Trunk(classifier, classifier.detector_settings, compiler)
            behind = [classifier, detector] if shared is Shared.PROPOSALS else [classifier]
            own = None
            if shared is Shared.NOTHING:
                other = Trunk(detector, detector.settings, compiler)
                own = other, BoxHeads.of([detector], compiler, other)
            self._compiled = _Programs(
                trunk=trunk,
                box_heads=BoxHeads.of(behind, compiler, trunk),
                s=compiler.program(graph.s_graph(classifier.s), Precision.FLOAT32),
                masks=MaskBranch(detector.roi_heads, compiler),
                own=own,
            )
            self._compiled_for = state
            self._workers = [Worker() for _ in range(self._worker_count)]
            self._idle = SimpleQueue()
            for worker in self._workers:
                self._idle.put(worker)
        return self._compiled

    def _slice_rows(self, programs: _Programs, worker: Worker, image: Tensor, scale: float) -> Tensor:
        regions = programs.trunk(worker, rescaled(image[None], scale)[0, 0].numpy(), programs.box_heads)
        return torch.from_numpy(rank_rows(regions[0], BoxRules.of(self.classifier)))

    def _slice_proposed(
        self, programs: _Programs, worker: Worker, image: Tensor, scale: float
    ) -> ProposedSlice:
        seen = programs.trunk.proposed(worker, rescaled(image[None], scale)[0, 0].numpy())
        return replace(seen, features=tuple(feature.copy() for feature in seen.features))

    def _slice(self, programs: _Programs, worker: Worker, image: Tensor, scale: float) -> SliceOutput:
        resized = rescaled(image[None], scale)[0, 0].numpy()
        seen = programs.trunk(worker, resized, programs.box_heads)
        rows = rank_rows(seen[0], BoxRules.of(self.classifier))
        (logits,) = worker.run(programs.s, rows.reshape(1, -1))
        logits = logits[0].copy()
        regions = seen[-1]
        if programs.own is not None:
            trunk, box_head = programs.own
            (regions,) = trunk(worker, resized, box_head)
        boxes, scores, labels = detections(regions, BoxRules.of(self.detector), self.min_score)
        found = {
            "boxes": torch.from_numpy(_in_slice(boxes, regions, image)),
            "labels": torch.from_numpy(labels),
            "scores": torch.from_numpy(scores),
            "masks": torch.from_numpy(programs.masks(worker, regions, boxes, labels)),
        }
        if self.detector.settings.maskness:
            found = score_by_masks(found, self.min_score)
        return SliceOutput(logits=torch.from_numpy(logits), **found)


def _in_slice(boxes: Floats, regions: SliceRegions, image: Tensor) -> Floats:
    """Return boxes of the resized slice in pixels of the slice as it was given."""
    height, width = image.shape[-2:]
    ratios = np.asarray([width / regions.size[1], height / regions.size[0]] * 2, dtype=np.float32)
    moved: Floats = boxes * ratios
    return moved
