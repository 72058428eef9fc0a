"""The detector on slices that experts labelled, which it was not trained on."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from covid_ct_mask_net.labels import LesionClass, MaskType
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training.datasets.read import ReadSliced
from covid_ct_mask_net.training.datasets.records import FILE, IMAGE, MASK, PATIENT, Record
from covid_ct_mask_net.training.evaluation import DetectionReport
from covid_ct_mask_net.training.metrics.bootstrap import Interval, clustered_interval
from covid_ct_mask_net.training.metrics.lesion_dice import outlined_labels
from covid_ct_mask_net.training.targets import detection_target

CONFIDENCE = 0.5
# Lesions of fewer pixels than this are not asked for.
_LEAST_PIXELS = 16
_COLOURS = {LesionClass.GROUND_GLASS_OPACITY: (0, 200, 80), LesionClass.CONSOLIDATION: (230, 40, 40)}


@dataclass(frozen=True, eq=False)
class SliceResult:
    """One slice.

    Attributes
    ----------
    name
        Of its file.
    patient
        Whose it is.
    image
        float32 (H, W) in [0, 1].
    truth, found
        uint8 (H, W): 0, 1 GGO, 2 consolidation; found from score 0.5 on.
    detection
        As the detector gave it.
    """

    name: str
    patient: str
    image: NDArray[np.float32]
    truth: NDArray[np.uint8]
    found: NDArray[np.uint8]
    detection: dict[str, Tensor]

    @property
    def dice(self) -> float:
        """Of lesion pixels, both classes together; 1 where there are none and none were found."""
        either = np.count_nonzero(self.truth) + np.count_nonzero(self.found)
        return 2 * np.count_nonzero((self.truth > 0) & (self.found > 0)) / either if either else 1.0


def detect_records(detector: LesionDetector, records: Iterable[Record]) -> Iterator[SliceResult]:
    """Yield the result on each slice of a labelled data set."""
    read = ReadSliced()
    for record in records:
        item = read(dict[Hashable, Any](record.items()))
        yield detect_slice(
            detector,
            str(item[FILE]),
            str(item[PATIENT]),
            np.asarray(item[IMAGE])[0],
            np.asarray(item[MASK])[0].astype(np.uint8),
        )


@torch.no_grad()
def detect_slice(
    detector: LesionDetector,
    name: str,
    patient: str,
    image: NDArray[np.float32],
    truth: NDArray[np.uint8],
) -> SliceResult:
    """Return the result on a slice (H, W) in [0, 1] with its labels (H, W)."""
    (found,) = detector.eval()([torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None]])
    return SliceResult(name, patient, image, truth, outlined_labels(found, truth.shape, CONFIDENCE), found)


def slice_figures(results: Sequence[SliceResult], seed: int = 0) -> dict[str, Any]:
    """Return Dice of both classes together and of each, with intervals, and average precision.

    Dice is that of all pixels of all slices together; intervals resample patients.
    """
    report = DetectionReport(MaskType.BOTH)
    for one in results:
        target = detection_target(one.truth, MaskType.BOTH, _LEAST_PIXELS)
        report.update(one.detection, target, one.truth, one.patient)
    figures = report.compute()
    patients = [one.patient for one in results]
    dice = {
        name: _values(clustered_interval(_Dice(results, lesion_class), patients, seed=seed))
        for name, lesion_class in (("lesion", None), ("ggo", 1), ("consolidation", 2))
    }
    fragments = [len(detection_target(one.truth, MaskType.BOTH, _LEAST_PIXELS)["boxes"]) for one in results]
    return {
        "slices": len(results),
        "patients": len(set(patients)),
        "fragments_a_slice": float(np.mean(fragments)),
        "dice": dice,
        "mask_ap": figures["coco_mask"],
        "intervals": figures["intervals"]["coco_mask"],
        "confusion": _confusion(results),
    }


class _Dice:
    """Dice of one class, or of all, over some of the slices."""

    def __init__(self, results: Sequence[SliceResult], lesion_class: int | None) -> None:
        def of(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
            return labels > 0 if lesion_class is None else labels == lesion_class

        self._both = np.array([np.count_nonzero(of(one.truth) & of(one.found)) for one in results])
        self._either = np.array(
            [np.count_nonzero(of(one.truth)) + np.count_nonzero(of(one.found)) for one in results]
        )

    def __call__(self, items: NDArray[np.int64]) -> float:
        either = self._either[items].sum()
        return float(2 * self._both[items].sum() / either) if either else float("nan")


def _confusion(results: Sequence[SliceResult]) -> list[list[int]]:
    """Return pixels by true (row) and found (column) label: none, GGO, consolidation."""
    counts = np.zeros((3, 3), dtype=np.int64)
    for one in results:
        np.add.at(counts, (one.truth.ravel(), one.found.ravel()), 1)
    return [[int(n) for n in row] for row in counts]


def _values(interval: Interval) -> dict[str, float]:
    return {"value": interval.estimate, "low": interval.low, "high": interval.high}


def picture(results: Sequence[SliceResult], path: Path, height: int = 160, columns: int = 2) -> None:
    """Draw slices in rows: the slice, the true lesions, those found. GGO is green, consolidation red.

    Only data whose licence allows it may be drawn into the repository.
    """
    strips = [_strip(one, height) for one in results]
    width = max(strip.width for strip in strips)
    rows = -(-len(strips) // columns)
    sheet = Image.new("RGB", (columns * (width + 6) - 6, rows * (height + 6) - 6), "white")
    for index, strip in enumerate(strips):
        sheet.paste(strip, ((index % columns) * (width + 6), (index // columns) * (height + 6)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(128).save(path, optimize=True)


def _strip(one: SliceResult, height: int) -> Image.Image:
    grey = np.repeat(one.image.clip(0, 1)[..., None] * 255, 3, axis=2)
    panels = [grey, _tinted(grey, one.truth), _tinted(grey, one.found)]
    strip = Image.fromarray(np.concatenate(panels, axis=1).astype(np.uint8))
    return strip.resize((max(1, round(strip.width * height / strip.height)), height))


def _tinted(grey: NDArray[np.floating], labels: NDArray[np.uint8]) -> NDArray[np.floating]:
    tinted = grey.copy()
    for lesion_class, colour in _COLOURS.items():
        inside = labels == lesion_class
        tinted[inside] = 0.5 * tinted[inside] + 0.5 * np.array(colour)
    return tinted
