"""Detections on plain images, without expert masks: a table, and every image drawn with what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training.datasets.records import (
    FILE,
    IMAGE,
    IMAGE_SUFFIXES,
    Record,
    existing_folder,
    files_in,
    make_record,
    stem_of,
)
from covid_ct_mask_net.training.detector_evaluation import OVERLAYS, write_overlay
from covid_ct_mask_net.training.files import csv_text, write_text
from covid_ct_mask_net.training.handlers import EvaluationWriter
from covid_ct_mask_net.training.metrics.coco import detector_class_names
from covid_ct_mask_net.training.metrics.protocols import check_share
from covid_ct_mask_net.training.samples import Sample, SampleDetections, grey_levels

TABLE, LIST = "detections.csv", "detections.json"
_BOX = ("x0", "y0", "x1", "y1")
_COLUMNS = ("file", "class", "score", *_BOX, "area")


@dataclass(frozen=True)
class Found:
    """One detection.

    Attributes
    ----------
    file, name
        Of the image, and of the lesion class.
    score
        In [0, 1].
    box
        x0, y0, x1, y1 in pixels of the image.
    area
        Pixels of the mask.
    """

    file: str
    name: str
    score: float
    box: tuple[float, ...]
    area: int


def plain_slices(folder: str | Path) -> list[Record]:
    """Return the images of a folder by name.

    Raises
    ------
    UsageError
        If there is no such folder, or no image in it.
    RefusedInputError
        If two names differ in their suffix alone: their overlays would have one name.
    """
    files = files_in(existing_folder(folder, "images"))
    if not files:
        raise UsageError(
            "NO_SLICES",
            f"There are no images in {folder}; files ending in {', '.join(IMAGE_SUFFIXES)} were expected.",
        )
    seen: dict[str, Path] = {}
    for path in files:
        other = seen.setdefault(stem_of(path), path)
        if other != path:
            raise RefusedInputError(
                "NAME_TWICE", f"{other} and {path} differ in their suffix alone; rename one of them."
            )
    return [make_record(path, patient="", scan="", slice_index=index) for index, path in enumerate(files)]


class WriteSliceDetections(EvaluationWriter):
    """Draw each image with its detections, and write all of them as a table when the last is done.

    ``detections.csv`` has a line a detection; ``detections.json`` also names images without any, the
    thresholds and the weights.

    Parameters
    ----------
    folder : path
        Where files are written; made if missing.
    detector : LesionDetector
    weights : path
        Its checkpoint, to be named.
    confidence : float
        Score from which detections count.
    mask_threshold : float
        Probability from which pixels of a mask count.
    overlays : bool
        Whether images are drawn.
    """

    def __init__(
        self,
        folder: str | Path,
        detector: LesionDetector,
        weights: str | Path,
        *,
        confidence: float = 0.5,
        mask_threshold: float = 0.5,
        overlays: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.detector = detector
        self.weights = Path(weights)
        self.confidence = check_share("confidence", confidence)
        self.mask_threshold = check_share("mask_threshold", mask_threshold)
        self.overlays = overlays
        self.mask_type = detector.settings.mask_type
        self._found: dict[str, list[Found]] = {}

    def reset(self) -> None:
        """Forget all images."""
        self._found.clear()

    def collect(self, batch: Any, predicted: Any) -> None:
        """Take the images of a batch."""
        for item, detection in zip(batch, predicted, strict=True):
            found = SampleDetections.of(detection, self.mask_threshold)
            self._found[item[FILE]] = self._above(item[FILE], found)
            if self.overlays:
                drawn = {self.detector.settings.roi_nms: found}
                sample = Sample(item[FILE], grey_levels(item[IMAGE]), detections=drawn)
                write_overlay(self.folder / OVERLAYS, sample, self.mask_type, self.confidence)

    def _above(self, file: str, found: SampleDetections) -> list[Found]:
        names = detector_class_names(self.mask_type)
        rows = zip(found.boxes, found.labels, found.scores, found.masks, strict=True)
        return [
            Found(file, names[int(label)], float(score), tuple(map(float, box)), int(mask.sum()))
            for box, label, score, mask in rows
            if score >= self.confidence
        ]

    def write(self) -> None:
        """Write the table."""
        lines = [_cells(one) for found in self._found.values() for one in found]
        write_text(self.folder / TABLE, csv_text([_COLUMNS, *lines]))
        content = {
            "notice": RESEARCH_NOTICE,
            "weights": self.weights.name,
            "confidence": self.confidence,
            "mask_threshold": self.mask_threshold,
            "roi_nms": self.detector.settings.roi_nms,
            "images": [
                {"file": file, "detections": [_listed(one) for one in found]}
                for file, found in self._found.items()
            ],
        }
        write_text(self.folder / LIST, json.dumps(content, indent=2) + "\n")


def _cells(one: Found) -> Sequence[str]:
    return one.file, one.name, f"{one.score:.4f}", *(f"{side:.1f}" for side in one.box), str(one.area)


def _listed(one: Found) -> dict[str, Any]:
    return {"class": one.name, "score": one.score, "box": list(one.box), "area": one.area}
