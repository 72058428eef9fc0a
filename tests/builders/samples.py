"""Samples of evaluations with made-up detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from builders.lesion_data import chest_slice, lesion_mask
from covid_ct_mask_net.training.lesion_statistics import lesions_of, write_lesions
from covid_ct_mask_net.training.predictions import MAIN
from covid_ct_mask_net.training.samples import (
    Sample,
    SampleDetections,
    highest_mask_logits,
    samples_folder,
    write_sample,
)


def detection(count: int, side: int = 64, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return ``count`` overlapping detections of both classes around the lesions of `lesion_mask`."""
    generator = np.random.default_rng(seed)
    masks = torch.zeros(count, 1, side, side)
    boxes = []
    for index in range(count):
        row, column = generator.integers(-2, 3, size=2) + (side // 4 if index % 2 == 0 else side // 2)
        masks[index, 0, row : row + 11, column : column + 13] = 0.7
        boxes.append([column, row, column + 13, row + 11])
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([1 + index % 2 for index in range(count)], dtype=torch.int64),
        "scores": torch.linspace(0.95, 0.1, count), "masks": masks,
    }  # fmt: skip


def make_sample(number: int = 0, **changes: object) -> Sample:
    """Return a slice with truth, detections at two NMS thresholds, mask and class logits."""
    truth = lesion_mask(ggo=number % 3 != 1, consolidation=number % 2 == 0)
    few, many = detection(3, seed=number), detection(8, seed=number + 1)
    values: dict[str, object] = {
        "file": f"{number}_12.jpg", "image": chest_slice(number),
        "truth": np.where(truth > 1, truth - 1, 0).astype(np.uint8),
        "detections": {0.25: SampleDetections.of(few), 0.75: SampleDetections.of(many)},
        "mask_logits": highest_mask_logits(many), "class_logits": np.array([-27.15, -15.09, 16.2]),
        "slice_class": 2,
    }  # fmt: skip
    return Sample(**(values | changes))  # type: ignore[arg-type]


def add_samples(folder: Path, count: int = 3, name: str = MAIN) -> Path:
    """Write samples of an evaluation and the lesions on them into a run folder; return the folder."""
    lesions = []
    for number in range(count):
        sample = make_sample(number)
        write_sample(samples_folder(folder, name), sample)
        lesions += lesions_of(sample.file, np.asarray(sample.truth))
    write_lesions(folder, lesions, name)
    return folder
