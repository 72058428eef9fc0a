"""Ranked rows of slices, computed once and kept on disk: mode ``s`` then trains in minutes.

S reads N x 5 numbers of a slice, and in mode ``s`` nothing before it changes. Rows are an ``.npy`` file that
is read without pickle; its name is a hash of everything that they depend on: weights and settings of the
trunk, precision, augmentation, and the bytes of the images.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Randomizable
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from covid_ct_mask_net.errors import NotAssessableError, OutputError, UsageError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.ranked_rows import ROW_WIDTH
from covid_ct_mask_net.training.datasets.read import ReadSliced
from covid_ct_mask_net.training.datasets.records import FILE, IMAGE, SLICE_CLASS, VOLUME_SLICE, Record
from covid_ct_mask_net.training.lung_crop import WHOLE_SHAPE
from covid_ct_mask_net.training.processes import several_processes
from covid_ct_mask_net.training.randomness import SeededDataset

ROWS = "rows"
# Ranked rows (B, N, 5) of slices (1, H, W) and their scales.
RowSource = Callable[[list[Tensor], list[float]], Tensor]
_LOGGER = logging.getLogger(__name__)


class RowDataset(Dataset):
    """Rows and classes of slices; with several variants, epochs take turns among them, or see them all.

    Parameters
    ----------
    records : sequence of dict
    rows : (variants, slices, N, 5)
        In the order of the records.
    together : bool
        Whether an item has the rows of all variants, (variants, N, 5).
    """

    def __init__(
        self, records: Sequence[Record], rows: NDArray[np.float32], *, together: bool = False
    ) -> None:
        self.data = list(records)
        self.rows = torch.from_numpy(np.asarray(rows))
        self.together = together
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, before its loader starts."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one slice: ``rows`` (N, 5), ``slice_class`` and ``file``."""
        record = self.data[index]
        rows = self.rows[:, index] if self.together else self.rows[(self.epoch - 1) % len(self.rows), index]
        return {ROWS: rows, SLICE_CLASS: record[SLICE_CLASS], FILE: record[FILE]}


def slices_or_rows(
    data: Sequence[Record],
    transform: Compose,
    seed: int,
    cache_rate: float,
    classifier: CovidCTMaskNet | None,
    *,
    cache_dir: str | Path | None = None,
    **rows: Any,
) -> SeededDataset | RowDataset:
    """Return what a classifier is trained on: slices, or the rows that a fixed trunk makes of them.

    Parameters
    ----------
    data : sequence of dict
    transform : Compose
    seed : int
    cache_rate : float
        Share of slices kept in memory.
    classifier : CovidCTMaskNet, optional
        Network whose trunk does not change; without it, slices are returned.
    cache_dir : path, optional
        Folder in which slices are kept; rows need none.
    **rows
        Further parameters of `cached_rows`.

    Raises
    ------
    UsageError
        If rows are asked for in one of several processes.
    """
    if classifier is not None and several_processes():
        raise UsageError(
            "ROWS", "Mode s trains on cached rows in minutes, in one process; leave the overlay out for it."
        )
    if classifier is None:
        return SeededDataset(data, transform, seed, cache_rate=cache_rate, cache_dir=cache_dir)
    return cached_rows(classifier, SeededDataset(data, transform, seed, cache_rate=0.0), **rows)


def cached_rows(
    classifier: CovidCTMaskNet,
    slices: SeededDataset,
    folder: str | Path,
    device: torch.device | str,
    *,
    batch_size: int = 8,
    variants: int = 1,
    settings: Any = None,
    sources: Mapping[str, RowSource] | None = None,
) -> RowDataset:
    """Return the rows of slices, from the folder where they are there already.

    Parameters
    ----------
    classifier : CovidCTMaskNet
    slices : SeededDataset
        Images with classes; its random transforms are drawn anew for each variant.
    folder : path
        Where rows are kept. An interrupted computation goes on where it stopped.
    device : torch.device or str
        Where rows are computed.
    batch_size : int
        Slices handed to the network at a time; slices may differ in size.
    variants : int
        How many augmented versions of each slice; without augmentation one is enough.
    settings : plain values
        What else rows depend on: precision, augmentation.
    sources : mapping of str to callable, optional
        What computes rows in place of the network, by name: each makes a variant of the same slices, and
        items have all of them. Whatever its rows depend on beside the network is in its name.

    Raises
    ------
    NotAssessableError
        If the network gives no numbers for a slice; the sentence names it.
    OutputError
        If rows cannot be written.
    """
    together = sources is not None
    if sources is not None:
        variants, settings = len(sources), {"sources": list(sources), "settings": settings}
    shape = (variants, len(slices), classifier.settings.regions, ROW_WIDTH)
    if not len(slices):
        return RowDataset([], np.zeros(shape, dtype=np.float32), together=together)
    plain = {"variants": variants, "settings": settings, "device": torch.device(device).type}
    key = data_key(classifier, slices, plain, changing=("s.",))
    path = Path(folder) / f"rows-{key[:32]}.npy"
    if path.is_file():
        _LOGGER.info("Rows of %d slices are taken from %s.", len(slices), path.name)
    else:
        classifier.to(device).eval()
        computing = (
            [(1, source) for source in sources.values()]
            if sources is not None
            else [(variant + 1, classifier.rows) for variant in range(variants)]
        )
        _compute(classifier, slices, path, shape, batch_size, computing)
    return RowDataset(slices.data, np.load(path, allow_pickle=False), together=together)


@torch.inference_mode()
def _compute(
    classifier: CovidCTMaskNet,
    slices: SeededDataset,
    path: Path,
    shape: tuple[int, ...],
    batch_size: int,
    sources: Sequence[tuple[int, RowSource]],
) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = _opened(partial, shape)
        flat = rows.reshape(-1, *shape[2:])
        # Rows that are there are numbers: the file starts out as NaN.
        left = np.flatnonzero(np.isnan(flat).any(axis=(1, 2)))
        device = next(classifier.parameters()).device
        with tqdm(total=len(flat), initial=len(flat) - len(left), desc="rows", unit="slice") as bar:
            for start in range(0, len(left), batch_size):
                chosen = left[start : start + batch_size]
                for variant in np.unique(chosen // len(slices)):
                    ours = chosen[chosen // len(slices) == variant]
                    epoch, source = sources[variant]
                    slices.set_epoch(epoch)
                    flat[ours] = _rows_of(classifier, slices, ours % len(slices), device, source)
                rows.flush()
                bar.update(len(chosen))
        del rows, flat
        partial.replace(path)
    except OSError as error:
        raise OutputError(
            "ROWS_UNWRITTEN", f"The rows {path} could not be written: {error.strerror}."
        ) from error


def _rows_of(
    classifier: CovidCTMaskNet,
    slices: SeededDataset,
    chosen: NDArray[np.int64],
    device: torch.device,
    source: RowSource,
) -> NDArray[np.float32]:
    images, scales = [], []
    for index in chosen.tolist():
        item = slices[index]
        images.append(item[IMAGE].to(device))
        scales.append(classifier.transform.scale_of(*item.get(WHOLE_SHAPE, item[IMAGE].shape[-2:])))
    found = source(images, scales).float().cpu().numpy()
    for index, one in zip(chosen.tolist(), found, strict=True):
        if not np.isfinite(one).all():
            name = slices.data[index][FILE]
            raise NotAssessableError(
                "MODEL_NON_FINITE", f"The network gave no numbers for {name}; the weights are unusable."
            )
    return np.asarray(found, dtype=np.float32)


def _opened(partial: Path, shape: tuple[int, ...]) -> np.memmap:
    """Open what an interrupted computation left, or start a file of NaN."""
    if partial.is_file():
        try:
            rows = open_memmap(partial, mode="r+")
            if rows.shape == shape:
                return rows
        except ValueError:
            _LOGGER.warning("%s is damaged and is computed anew.", partial.name)
    rows = open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
    rows[:] = np.nan
    return rows


def data_key(
    classifier: CovidCTMaskNet, slices: SeededDataset, settings: Any, changing: tuple[str, ...]
) -> str:
    """Return a hash over all that what a network computes of slices depends on.

    Parameters
    ----------
    classifier : CovidCTMaskNet
    slices : SeededDataset
        Its images count by their bytes.
    settings : plain values
        What else there is.
    changing : tuple of str
        Beginnings of the names of weights that do not matter.
    """
    digest = hashlib.sha256()
    drawn = any(isinstance(step, Randomizable) for step in slices.transform.transforms)
    plain = {
        "trunk": classifier.detector_settings.to_dict(),
        "classifier": classifier.settings.to_dict() | {"features": None, "classes": None},
        "seed": slices.seed if drawn else None, "settings": settings,
    }  # fmt: skip
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for name, tensor in sorted(classifier.state_dict().items()):
        if not name.startswith(changing):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for record in slices.data:
        with Path(record[IMAGE]).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        digest.update(json.dumps([record.get(name) for name in ("transposed", "volume_slice")]).encode())
    if any(VOLUME_SLICE in record for record in slices.data):
        windows = [
            (step.low, step.width) for step in slices.transform.transforms if isinstance(step, ReadSliced)
        ]
        digest.update(json.dumps(windows).encode())
    return digest.hexdigest()
