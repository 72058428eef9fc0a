"""Slices with masks and detections for figures: ``RUN/samples/FILE.npz``.

Those of further evaluations lie in ``RUN/samples-NAME``. Figures 1 and 6 of the paper and the logit maps of
the original's README are drawn from these files, so that drawing needs neither the data sets nor the network.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covid_ct_mask_net.errors import OutputError, RefusedInputError
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training.metrics.coco import MASK_THRESHOLD
from covid_ct_mask_net.training.predictions import MAIN, evaluation_stem

_STEM = "samples"
_SCHEMA = "covid-ct-mask-net/sample/1"
# Probabilities of exactly 0 or 1 have no logit; float32 masks reach both.
_LOGIT_LIMIT = 30.0


@dataclass(frozen=True, eq=False)
class SampleDetections:
    """What the detector says about a slice under one set of thresholds.

    Attributes
    ----------
    boxes, labels, scores
        (n, 4) in pixels, (n,), (n,); best first.
    masks
        (n, H, W) of bool.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    masks: NDArray[np.bool_]

    @classmethod
    def of(cls, detection: Mapping[str, Tensor], mask_threshold: float = MASK_THRESHOLD) -> SampleDetections:
        """Return the detection of a `LesionDetector`, with masks as the pixels from a probability on."""
        masks = detection["masks"].detach().cpu().numpy()
        return cls(
            detection["boxes"].detach().cpu().numpy().astype(np.float32),
            detection["labels"].detach().cpu().numpy().astype(np.int64),
            detection["scores"].detach().cpu().numpy().astype(np.float32),
            masks.reshape(len(masks), *masks.shape[-2:]) >= mask_threshold,
        )


@dataclass(frozen=True, eq=False)
class Sample:
    """One slice of an evaluation.

    Attributes
    ----------
    file
        Name of the slice.
    image
        (H, W) uint8.
    truth
        (H, W) uint8 lesion labels (0, 1 GGO, 2 consolidation); None where there are no masks.
    detections
        By RoI NMS threshold; empty for a classifier alone.
    mask_logits
        (H, W) float32: the highest mask logit of any detection at a pixel, NaN outside of all boxes.
    class_logits
        (classes,) of the classifier; None without one.
    slice_class
        Its true class; None if unknown.
    """

    file: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None = None
    detections: Mapping[float, SampleDetections] = field(default_factory=dict)
    mask_logits: NDArray[np.float32] | None = None
    class_logits: NDArray[np.float64] | None = None
    slice_class: int | None = None


def grey_levels(image: Tensor) -> NDArray[np.uint8]:
    """Return a slice (1, H, W) in [0, 1] as (H, W) uint8."""
    return np.asarray((image[0].detach().cpu() * 255).round().clamp(0, 255).numpy(), dtype=np.uint8)


def highest_mask_logits(detection: Mapping[str, Tensor]) -> NDArray[np.float32]:
    """Return the highest mask logit at each pixel (H, W) over all detections; NaN outside of their boxes."""
    masks = detection["masks"].detach().cpu().numpy().astype(np.float64)
    masks = masks.reshape(len(masks), *masks.shape[-2:])
    shape = masks.shape[-2:]
    if not len(masks):
        return np.full(shape, np.nan, dtype=np.float32)
    best = masks.max(axis=0)
    with np.errstate(divide="ignore"):
        logits = np.log(best) - np.log1p(-best)
    inside = np.zeros(shape, dtype=bool)
    for x0, y0, x1, y1 in detection["boxes"].detach().cpu().numpy():
        inside[int(np.floor(y0)) : int(np.ceil(y1)) + 1, int(np.floor(x0)) : int(np.ceil(x1)) + 1] = True
    clipped = np.clip(logits, -_LOGIT_LIMIT, _LOGIT_LIMIT)
    return np.where(inside, clipped, np.nan).astype(np.float32)


def samples_folder(folder: Path, name: str = MAIN) -> Path:
    """Return where the samples of an evaluation lie in its run folder."""
    return folder / evaluation_stem(_STEM, name)


def write_sample(folder: Path, sample: Sample) -> Path:
    """Write a sample into a folder of samples; its file is named after the slice.

    Returns
    -------
    pathlib.Path
    """
    arrays: dict[str, Any] = {
        "schema": np.array(_SCHEMA),
        "name": np.array(sample.file),
        "image": sample.image,
        "thresholds": np.array(list(sample.detections), dtype=np.float64),
    }
    for name in ("truth", "mask_logits", "class_logits"):
        value = getattr(sample, name)
        if value is not None:
            arrays[name] = value
    if sample.slice_class is not None:
        arrays["slice_class"] = np.array(sample.slice_class)
    for index, one in enumerate(sample.detections.values()):
        arrays |= {
            f"boxes_{index}": one.boxes, f"labels_{index}": one.labels, f"scores_{index}": one.scores,
            f"masks_{index}": np.packbits(one.masks.reshape(len(one.masks), sample.image.size), axis=1),
        }  # fmt: skip
    path = folder / f"{_file_stem(sample.file)}.npz"
    partial = path.with_name(f".{path.name}.partial")
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content.getvalue())
        os.replace(partial, path)  # noqa: PTH105
    except OSError as error:
        raise OutputError("RUN_NOT_WRITTEN", f"{path} could not be written: {error.strerror}.") from error
    return path


def read_samples(folder: Path, name: str = MAIN) -> list[Sample]:
    """Return the samples that an evaluation left in its run folder, by name; none if it left none.

    Raises
    ------
    RefusedInputError
        If a file is damaged or of another kind; the sentence names it.
    """
    return [_read(path) for path in sorted(samples_folder(folder, name).glob("*.npz"))]


def spread_out(count: int, wanted: int) -> list[int]:
    """Return the places of ``wanted`` samples spread evenly over ``count`` slices."""
    if count <= wanted:
        return list(range(count))
    return (
        sorted({round(place) for place in np.linspace(0, count - 1, wanted)}) if wanted > 1 else [0][:wanted]
    )


def _file_stem(name: str) -> str:
    """Return a file name for a slice's name, which may hold folders."""
    stem = name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1] else name
    return "".join(c if c.isalnum() or c in "-_#" else "_" for c in stem)


def _read(path: Path) -> Sample:
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["schema"]) != _SCHEMA:
                raise ValueError(f"schema {stored['schema']}")
            arrays = {name: stored[name] for name in stored.files}
        image = arrays["image"]
        return Sample(
            file=str(arrays["name"]),
            image=image,
            truth=arrays.get("truth"),
            detections={
                float(threshold): _detections(arrays, index, image.shape)
                for index, threshold in enumerate(arrays["thresholds"])
            },
            mask_logits=arrays.get("mask_logits"),
            class_logits=arrays.get("class_logits"),
            slice_class=int(arrays["slice_class"]) if "slice_class" in arrays else None,
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RefusedInputError("SAMPLE", f"{path} is no sample of an evaluation: {error}.") from error


def _detections(arrays: Mapping[str, NDArray], index: int, shape: Sequence[int]) -> SampleDetections:
    packed = arrays[f"masks_{index}"]
    pixels = int(np.prod(shape))
    masks = np.unpackbits(packed, axis=1, count=pixels).astype(bool).reshape(len(packed), *shape)
    return SampleDetections(
        arrays[f"boxes_{index}"], arrays[f"labels_{index}"], arrays[f"scores_{index}"], masks
    )


def detected(detector: LesionDetector, image: Tensor, roi_nms: float) -> dict[str, Tensor]:
    """Return the detections of a slice (1, H, W) under another RoI NMS threshold."""
    heads = detector.roi_heads
    before, heads.nms_thresh = heads.nms_thresh, roi_nms
    try:
        with torch.no_grad():
            (found,) = detector.eval()([image.to(next(detector.parameters()).device)])
    finally:
        heads.nms_thresh = before
    return found
