from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from builders.samples import make_sample
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES, MaskType
from covid_ct_mask_net.training.samples import SampleDetections
from covid_ct_mask_net.training.tables.overlays import (
    MOST_SLICES,
    figure_1,
    figure_6,
    inference_overlay,
    logit_figure,
)

SAMPLES = [make_sample(number) for number in range(2)]
BARE = make_sample(5, truth=None, detections={}, mask_logits=None, class_logits=None)


def _colours(path: Path | None) -> np.ndarray:
    assert path is not None
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return pixels[(pixels.max(axis=-1) - pixels.min(axis=-1)) > 60]


def test_figure_1_shows_both_lesion_classes(tmp_path: Path) -> None:
    colours = _colours(figure_1(SAMPLES, tmp_path / "1.png"))
    assert (colours[:, 2] > colours[:, 0]).any(), "GGO is blue"
    assert (colours[:, 0] > colours[:, 2]).any(), "consolidation is orange"
    assert figure_1([BARE], tmp_path / "none.png") is None


def test_figure_6_needs_two_thresholds(tmp_path: Path) -> None:
    path = figure_6([*SAMPLES, BARE], tmp_path / "6.png", MaskType.BOTH)
    assert len(_colours(path)) > 100
    once = make_sample(1, detections={0.25: SAMPLES[0].detections[0.25]})
    assert figure_6([once], tmp_path / "none.png", MaskType.BOTH) is None


def test_every_detection_is_drawn(tmp_path: Path) -> None:
    # Sixty of GGO, then one of consolidation, the least sure.
    count = 61
    boxes = np.tile(np.array([[10, 10, 20, 20]], dtype=np.float32), (count, 1))
    boxes[-1] = 40, 40, 58, 58
    labels = np.ones(count, dtype=np.int64)
    labels[-1] = 2
    scores = np.linspace(0.95, 0.1, count).astype(np.float32)
    found = SampleDetections(boxes, labels, scores, np.zeros((count, 64, 64), dtype=bool))
    crowded = make_sample(0, truth=None, detections={0.25: found, 0.75: found})
    for path in (
        figure_6([crowded], tmp_path / "6.png", MaskType.BOTH),
        inference_overlay(crowded, tmp_path / "o.png", MaskType.BOTH, 0.05),
    ):
        colours = _colours(path)
        assert (colours[:, 0] > colours[:, 2]).any(), "consolidation is orange"


def test_logit_maps_also_without_truth_classifier_or_regions(tmp_path: Path) -> None:
    nowhere = np.full((64, 64), np.nan, dtype=np.float32)
    odd = make_sample(3, truth=None, class_logits=None, mask_logits=nowhere, slice_class=None)
    path = logit_figure([SAMPLES[0], odd], tmp_path / "logits.png", SLICE_CLASS_NAMES, MaskType.BOTH)
    assert len(_colours(path)) > 1000
    assert logit_figure([BARE], tmp_path / "none.png", SLICE_CLASS_NAMES, MaskType.BOTH) is None


def test_overlays_of_inference_show_what_reaches_the_score(tmp_path: Path) -> None:
    high = _colours(inference_overlay(SAMPLES[0], tmp_path / "h.png", MaskType.BOTH, 0.99))
    low = _colours(inference_overlay(SAMPLES[0], tmp_path / "l.png", MaskType.BOTH, 0.05))
    assert len(high) == 0
    assert len(low) > 200
    assert inference_overlay(BARE, tmp_path / "none.png", MaskType.BOTH, 0.5) is None


def test_figures_stay_legible(tmp_path: Path) -> None:
    path = figure_1([make_sample(number) for number in range(MOST_SLICES + 4)], tmp_path / "1.png")
    assert path is not None
    with Image.open(path) as image:
        assert image.width < 2000
