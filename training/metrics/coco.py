"""COCO average precision of boxes and masks, by COCO's own evaluation (pycocotools)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from covid_ct_mask_net.labels import LesionClass, MaskType

MASK_THRESHOLD = 0.5
# IoU 0.50 to 0.95 in steps of 0.05, COCO's own.
_AT_50, _AT_75 = 0, 5


def detector_class_names(mask_type: MaskType) -> dict[int, str]:
    """Return the names of a detector's classes by label, without background."""
    if mask_type is MaskType.MERGE:
        return {1: "Lesion"}
    names = {int(one): one.label for one in LesionClass}
    return names if mask_type is MaskType.BOTH else {1: names[1]}


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures; NaN where there is no lesion to find.

    Attributes
    ----------
    ap, ap50, ap75
        Mean over IoU 0.50:0.95, and at 0.50 and 0.75, over classes that occur.
    by_class
        AP over 0.50:0.95 by class name.
    by_class50
        AP at 0.50 by class name.
    """

    ap: float
    ap50: float
    ap75: float
    by_class: Mapping[str, float]
    by_class50: Mapping[str, float]

    @classmethod
    def of(cls, precision: NDArray[np.float64], names: Mapping[int, str]) -> AveragePrecision:
        """Return the figures of COCO's precision (IoU thresholds, recall steps, classes); -1 is undefined.

        Parameters
        ----------
        precision : array
        names : mapping of int to str
            Classes in their order.
        """
        return cls(
            ap=_mean(precision),
            ap50=_mean(precision[_AT_50 : _AT_50 + 1]),
            ap75=_mean(precision[_AT_75 : _AT_75 + 1]),
            by_class={name: _mean(precision[..., index]) for index, name in enumerate(names.values())},
            by_class50={name: _mean(precision[0, :, index]) for index, name in enumerate(names.values())},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``metrics.json`` holds them."""
        return {
            "ap": self.ap, "ap50": self.ap50, "ap75": self.ap75,
            "by_class": dict(self.by_class), "by_class50": dict(self.by_class50),
        }  # fmt: skip


class CocoEvaluation:
    """Collect detections slice by slice, then compute AP of masks and boxes.

    Masks are kept run-length encoded, so that a whole test set needs little memory.

    Parameters
    ----------
    mask_type : MaskType
        Names the classes.
    max_detections : int
        Detections taken of a slice, best first (COCO: 100).
    """

    def __init__(self, mask_type: MaskType, max_detections: int = 100) -> None:
        self.names = detector_class_names(mask_type)
        self.max_detections = max_detections
        self._images: list[dict[str, int]] = []
        self._truths: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def update(self, detection: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        """Add one slice.

        Parameters
        ----------
        detection : mapping
            ``boxes`` (n, 4), ``labels`` (n,), ``scores`` (n,), ``masks`` (n, 1, H, W) probabilities.
        target : mapping
            ``boxes`` (m, 4), ``labels`` (m,), ``masks`` (m, H, W) of 0 and 1.
        """
        image = len(self._images) + 1
        truth = target["masks"].cpu().numpy() > 0
        self._images.append({"id": image, "height": truth.shape[-2], "width": truth.shape[-1]})
        for box, label, one in zip(target["boxes"].tolist(), target["labels"].tolist(), truth, strict=True):
            self._truths.append(
                {
                    "id": len(self._truths) + 1, "image_id": image, "category_id": label, "iscrowd": 0,
                    "bbox": _corner_and_size(box), "segmentation": _encode(one), "area": float(one.sum()),
                }
            )  # fmt: skip
        masks = detection["masks"].detach().cpu().numpy().reshape(-1, *truth.shape[-2:]) >= MASK_THRESHOLD
        rows = zip(
            detection["boxes"].tolist(), detection["labels"].tolist(), detection["scores"].tolist(), masks,
            strict=True,
        )  # fmt: skip
        for box, label, score, one in rows:
            self._found.append(
                {
                    "id": len(self._found) + 1, "image_id": image, "category_id": label, "score": score,
                    "bbox": _corner_and_size(box), "segmentation": _encode(one), "iscrowd": 0,
                    "area": float(one.sum()),
                }
            )  # fmt: skip

    def extend(self, other: CocoEvaluation) -> None:
        """Add the slices of another evaluation, for example of another process."""
        images, truths, found = len(self._images), len(self._truths), len(self._found)
        self._images += [{**one, "id": one["id"] + images} for one in other._images]
        for ours, theirs, count in (
            (self._truths, other._truths, truths),
            (self._found, other._found, found),
        ):
            ours += [{**one, "id": one["id"] + count, "image_id": one["image_id"] + images} for one in theirs]

    def compute(self, masks: bool = True) -> AveragePrecision:
        """Return AP of masks, or of boxes, over all slices added so far."""
        return AveragePrecision.of(self._precision("segm" if masks else "bbox"), self.names)

    def matched(self, kind: str) -> Any:
        """Return COCO's evaluation (``segm`` or ``bbox``) with detections matched, not accumulated yet."""
        categories = [{"id": label, "name": name} for label, name in self.names.items()]
        # COCO's tools report to standard output, which belongs to the command line.
        with contextlib.redirect_stdout(io.StringIO()):
            truths = _index(self._images, categories, self._truths)
            evaluation = COCOeval(truths, _index(self._images, categories, self._found), kind)
            evaluation.params.maxDets = [self.max_detections]
            # Of COCO's areas, all: lesions have no sizes of their own.
            evaluation.params.areaRng = evaluation.params.areaRng[:1]
            evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
            evaluation.evaluate()
        return evaluation

    def _precision(self, kind: str) -> NDArray[np.float64]:
        """Return precision (IoU thresholds, recall steps, classes); -1 where a class does not occur."""
        evaluation = self.matched(kind)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        precision: NDArray[np.float64] = evaluation.eval["precision"]
        # Area "all", the one limit of detections.
        return precision[..., 0, 0]


def _index(images: list[dict[str, int]], categories: list[dict[str, Any]], annotations: list[Any]) -> COCO:
    index = COCO()
    # Copies, for the evaluation marks annotations.
    index.dataset = {
        "images": images, "categories": categories, "annotations": [dict(one) for one in annotations],
    }  # fmt: skip
    index.createIndex()
    return index


def _encode(mask: NDArray[np.bool_]) -> Any:
    return rle.encode(np.asfortranarray(mask.astype(np.uint8)))


def _corner_and_size(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _mean(precision: NDArray[np.float64]) -> float:
    occurring = precision[precision > -1]
    return float(occurring.mean()) if occurring.size else float("nan")
