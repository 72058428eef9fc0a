"""Feature maps and proposals of slices, computed once and kept on disk: mode ``s_boxes`` then trains on them.

Mode ``s_boxes`` trains the box head and S. The trunk before them does not change, and is most of the work. A
compiled engine of the CPU computes what it gives for each slice, one file a slice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from covid_ct_mask_net.engines.base import Precision
from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.errors import NotAssessableError, UntrustedModelError, UsageError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.regions import Regions
from covid_ct_mask_net.training.classification import ClassifierTraining
from covid_ct_mask_net.training.datasets.records import FILE, IMAGE, SLICE_CLASS, Record
from covid_ct_mask_net.training.disk_cache import read_kept, write_kept
from covid_ct_mask_net.training.processes import several_processes
from covid_ct_mask_net.training.randomness import SeededDataset
from covid_ct_mask_net.training.row_cache import data_key

if TYPE_CHECKING:
    # Compiled kernels are optional and take half a second to import.
    from covid_ct_mask_net.engines.compiled import CompiledEngine
    from covid_ct_mask_net.engines.post import ProposedSlice

PROPOSED = "proposed"
FORMATS = {Precision.FLOAT32: torch.float32, Precision.BFLOAT16: torch.bfloat16}
# Slices that the engine is given at a time.
_BATCH = 16
_LOGGER = logging.getLogger(__name__)


class ProposedSlices(Dataset):
    """What the trunk gave for slices, from the disk.

    Items have ``proposed``, ``slice_class`` and ``file``. What was proposed is a dictionary: ``features``,
    the maps (h, w, 256) of all levels, finest first; ``scales``, cells a pixel of each; ``proposals`` (P, 4)
    in pixels of the resized slice; ``size``, its height and width.

    Parameters
    ----------
    records : sequence of dict
    folder : Path
        With a file for each record.
    """

    def __init__(self, records: Sequence[Record], folder: Path) -> None:
        self.data = list(records)
        self.folder = folder

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: all epochs see the same."""

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one slice."""
        record = self.data[index]
        kept = torch.load(_path(self.folder, index), weights_only=True)
        return {PROPOSED: kept, SLICE_CLASS: record[SLICE_CLASS], FILE: record[FILE]}


def proposed_slices(
    classifier: CovidCTMaskNet,
    detector: LesionDetector | None,
    slices: SeededDataset,
    folder: str | Path,
    precision: Precision | str,
) -> ProposedSlices:
    """Return what the trunk gives for slices; what the folder does not hold yet is computed.

    Parameters
    ----------
    classifier : CovidCTMaskNet
        On the CPU.
    detector : LesionDetector, optional
        Engines take both networks.
    slices : SeededDataset
        Whole slices without augmentation: each is read once.
    folder : path
        Where; an interrupted computation goes on where it stopped. A slice of the shipped network takes 0.3
        MB in bfloat16.
    precision : Precision or str
        ``float32`` or ``bfloat16``: what the trunk computes in and what is kept.

    Raises
    ------
    UsageError
        In one of several processes, for another precision, or if packages are missing.
    UntrustedModelError
        If the start holds no detector.
    NotAssessableError
        If the network gives no numbers for a slice; the sentence names it.
    OutputError
        If files cannot be written.
    """
    if several_processes():
        raise UsageError("TRUNK_CACHE", "What the trunk gives is kept by one process; leave the overlay out.")
    if precision not in FORMATS:
        raise UsageError("TRUNK_CACHE", f"trunk_precision is {precision!r}, but must be float32 or bfloat16.")
    chosen = Precision(precision)
    key = data_key(classifier, slices, {"precision": chosen.value}, changing=("s.", "roi_heads."))
    place = Path(folder) / f"trunk-{key[:32]}"
    left = [index for index in range(len(slices)) if read_kept(_path(place, index)) is None]
    if left:
        if detector is None:
            raise UntrustedModelError(
                "WEIGHTS_MISMATCH",
                "The checkpoint to start from holds no lesion detector; engines need both.",
            )
        _compute(trunk_engine(detector, classifier, chosen), slices, left, place, FORMATS[chosen])
    else:
        _LOGGER.info("What the trunk gives for %d slices is taken from %s.", len(slices), place.name)
    return ProposedSlices(slices.data, place)


def kept_form(seen: ProposedSlice, kind: torch.dtype) -> dict[str, Any]:
    """Return what the trunk gave for a slice as `ProposedSlices` keeps it, its maps in a number format."""
    return {
        "features": [torch.from_numpy(feature).to(kind) for feature in seen.features],
        "scales": list(seen.scales),
        "proposals": torch.from_numpy(seen.proposals),
        "size": list(seen.size),
    }


class BoxHeadTraining(ClassifierTraining):
    """Box head and S as they are trained behind a trunk that has been there: returns logits (B, classes).

    Parameters
    ----------
    classifier : CovidCTMaskNet
    precision : Precision or str
        ``bfloat16`` pools regions and computes the box head in it; its outputs are float32 in any case.
    """

    def __init__(self, classifier: CovidCTMaskNet, precision: Precision | str) -> None:
        super().__init__(classifier)
        self.rounded = Precision(precision) is Precision.BFLOAT16

    def forward(
        self,
        inputs: Tensor | Sequence[Any],
        scales: Sequence[float] | None = None,  # noqa: ARG002 - each slice holds its own
    ) -> Tensor:
        """Return the logits of slices as `ProposedSlices` gives them."""
        heads = self.classifier.roi_heads
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.rounded):
            hidden = heads.box_head(torch.cat([self._pooled(one) for one in inputs]))
        logits, deltas = heads.box_predictor(hidden.float())
        proposals, sizes = [one["proposals"] for one in inputs], [tuple(one["size"]) for one in inputs]
        rows = self.classifier.rank(Regions({}, proposals, logits, deltas, sizes, sizes))
        found: Tensor = self.classifier.s(rows)
        return found

    def _pooled(self, one: Mapping[str, Any]) -> Tensor:
        """Return the pooled regions (P, 256, side, side) of a slice."""
        from covid_ct_mask_net.engines.post import pool_regions

        side = int(self.classifier.roi_heads.box_roi_pool.output_size[0])
        features = [np.ascontiguousarray(feature.float().numpy()) for feature in one["features"]]
        count, channels = len(one["proposals"]), features[0].shape[2]
        # The kernel writes the bits of bfloat16 into uint16.
        pooled = np.empty((count, side**2, channels), np.uint16 if self.rounded else np.float32)
        pool_regions(features, one["scales"], one["proposals"].numpy(), pooled, side)
        tensor = torch.from_numpy(pooled)
        if self.rounded:
            tensor = tensor.view(torch.bfloat16)
        return tensor.transpose(1, 2).reshape(count, channels, side, side)


def prepare_proposed(
    batch: Sequence[Mapping[str, Any]],
    device: torch.device,
    non_blocking: bool,  # noqa: ARG001 - nothing is copied
    **_: Any,
) -> tuple[list[Any], Tensor, tuple[Any, ...], dict[str, Any]]:
    """Return inputs and class ids (B,) of `BoxHeadTraining`: MONAI engines' ``prepare_batch``.

    Raises
    ------
    UsageError
        If the device is no CPU.
    """
    if torch.device(device).type != "cpu":
        raise UsageError("TRUNK_CACHE", "What is kept of the trunk is read by a CPU; set device to cpu.")
    classes = torch.tensor([int(item[SLICE_CLASS]) for item in batch])
    return [item[PROPOSED] for item in batch], classes, (), {}


def trunk_engine(
    detector: LesionDetector, classifier: CovidCTMaskNet, precision: Precision
) -> CompiledEngine:
    """Return what computes the trunk: the engine of this processor in a precision.

    Raises
    ------
    UsageError
        If its packages are missing, or the processor lacks the precision.
    """
    how = (
        {"name": "exact"}
        if precision is Precision.FLOAT32
        else {"name": "fast", "precision": precision.value}
    )
    engine: Any = build_engine(detector.eval(), classifier.eval(), 1.0, cache="none", **how)  # type: ignore[arg-type]
    return engine


def _compute(
    engine: CompiledEngine, slices: SeededDataset, left: Sequence[int], place: Path, kind: torch.dtype
) -> None:
    scale_of = engine.classifier.transform.scale_of
    with tqdm(total=len(slices), initial=len(slices) - len(left), desc="trunk", unit="slice") as bar:
        for chosen in _batches(left):
            images = [slices[index][IMAGE] for index in chosen]
            scales = [scale_of(*image.shape[-2:]) for image in images]
            for index, seen in zip(chosen, engine.proposed(images, scales), strict=True):
                if not all(np.isfinite(part).all() for part in (*seen.features, seen.proposals)):
                    raise NotAssessableError(
                        "MODEL_NON_FINITE",
                        f"The network gave no numbers for {slices.data[index][FILE]}; "
                        "the weights are unusable.",
                    )
                write_kept(_path(place, index), kept_form(seen, kind))
            bar.update(len(chosen))


def _batches(indices: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), _BATCH):
        yield indices[start : start + _BATCH]


def _path(folder: Path, index: int) -> Path:
    # No folder should hold all slices of a collection.
    return folder / f"{index // 1000:03d}" / f"{index:06d}.pt"
