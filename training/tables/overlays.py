"""Figures of slices: lesions (paper, Figure 1), two NMS thresholds (Figure 6), mask logits (README)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.labels import LesionClass, MaskType
from covid_ct_mask_net.training.metrics.coco import detector_class_names
from covid_ct_mask_net.training.samples import Sample, SampleDetections
from covid_ct_mask_net.training.tables.drawing import (
    CLASS_COLOURS,
    LESION_COLOURS,
    drawn,
    show_slice,
    tint,
)

# Fewer would hide what a slice is like, more would not be legible.
MOST_SLICES = 6
# Detections shown: Figure 6 of the paper takes all from score 0.05 on.
FIGURE_6_SCORE = 0.05
# Beyond it a pixel is certain; the colours are kept for those that are not.
_LARGEST_LOGIT = 8.0


def figure_1(samples: Sequence[Sample], path: Path) -> Path | None:
    """Draw slices with the lesions of their expert masks (paper, Figure 1)."""
    chosen = [one for one in samples if one.truth is not None][:MOST_SLICES]
    if not chosen:
        return None
    with drawn(path, 2, len(chosen), 2.1 * len(chosen), 4.9) as axes:
        for column, one in enumerate(chosen):
            show_slice(axes[0, column], one.image, one.file)
            show_slice(axes[1, column], one.image)
            _truth(axes[1, column], one)
        _lesion_legend(axes[1, 0])
    return path


def figure_6(samples: Sequence[Sample], path: Path, mask_type: MaskType) -> Path | None:
    """Draw detections under each RoI NMS threshold beside the truth (paper, Figure 6)."""
    chosen = [one for one in samples if len(one.detections) > 1][:MOST_SLICES]
    if not chosen:
        return None
    thresholds = sorted(chosen[0].detections)
    columns = len(thresholds) + 1
    with drawn(path, len(chosen), columns, 2.6 * columns, 2.7 * len(chosen) + 0.3) as axes:
        for row, one in enumerate(chosen):
            for column, threshold in enumerate(thresholds):
                found = one.detections[threshold]
                kept = int((found.scores >= FIGURE_6_SCORE).sum())
                show_slice(axes[row, column], one.image, f"RoI NMS {threshold:g}: {kept} from score 0.05")
                _boxes(axes[row, column], found, FIGURE_6_SCORE, mask_type)
            show_slice(axes[row, -1], one.image, f"truth: {one.file}")
            _truth(axes[row, -1], one)
    return path


def logit_figure(
    samples: Sequence[Sample], path: Path, class_names: Sequence[str], mask_type: MaskType
) -> Path | None:
    """Draw slice, mask logits, truth and class logits side by side, as the original's README does."""
    chosen = [one for one in samples if one.mask_logits is not None][:MOST_SLICES]
    if not chosen:
        return None
    with drawn(path, len(chosen), 4, 11.5, 2.6 * len(chosen) + 0.3, width_ratios=(1, 1.25, 1, 1.1)) as axes:
        for row, one in enumerate(chosen):
            show_slice(axes[row, 0], one.image, one.file)
            threshold = min(one.detections, default=None)
            if threshold is not None:
                _boxes(axes[row, 0], one.detections[threshold], 0.5, mask_type)
            _logits(axes[row, 1], one)
            show_slice(axes[row, 2], one.image, "truth" if one.truth is not None else "no mask")
            _truth(axes[row, 2], one)
            _class_logits(axes[row, 3], one, class_names)
    return path


def inference_overlay(sample: Sample, path: Path, mask_type: MaskType, score: float) -> Path | None:
    """Draw one slice with boxes, classes, scores and masks from a score on."""
    if not sample.detections:
        return None
    threshold = min(sample.detections)
    with drawn(path, 1, 2, 7.4, 4.0) as axes:
        show_slice(axes[0, 0], sample.image, sample.file)
        show_slice(axes[0, 1], sample.image, f"RoI NMS {threshold:g}, score from {score:g}")
        found = sample.detections[threshold]
        for label, colour in LESION_COLOURS.items():
            chosen = (found.scores >= score) & (found.labels == label)
            tint(axes[0, 1], found.masks[chosen].any(axis=0), colour)
        _boxes(axes[0, 1], found, score, mask_type, texts=True)
    return path


def _truth(axis: Any, sample: Sample) -> None:
    if sample.truth is None:
        return
    for lesion_class in LesionClass:
        tint(axis, sample.truth == int(lesion_class), LESION_COLOURS[int(lesion_class)])


def _boxes(
    axis: Any, found: SampleDetections, score: float, mask_type: MaskType, *, texts: bool = False
) -> None:
    from matplotlib.patches import Rectangle

    names = detector_class_names(mask_type)
    # All of them: titles count all, and what is too many to read is what a figure of NMS has to show.
    for index in np.flatnonzero(found.scores >= score):
        x0, y0, x1, y1 = (float(value) for value in found.boxes[index])
        colour = LESION_COLOURS[int(found.labels[index])]
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=colour, lw=0.9))
        if texts:
            axis.text(
                x0, max(y0 - 2, 6), f"{names[int(found.labels[index])]} {found.scores[index]:.2f}",
                color=colour, fontsize=6,
            )  # fmt: skip


def _logits(axis: Any, sample: Sample) -> None:
    show_slice(axis, sample.image, "mask logits of the regions")
    values: NDArray[np.float32] = np.asarray(sample.mask_logits)
    if np.isfinite(values).any():
        limit = min(float(np.nanpercentile(np.abs(values), 98)), _LARGEST_LOGIT) or 1.0
        shown = axis.imshow(np.ma.masked_invalid(values), cmap="coolwarm", vmin=-limit, vmax=limit, alpha=0.8)
        axis.figure.colorbar(shown, ax=axis, shrink=0.75)
    else:
        axis.set_title("no region", fontsize=8)


def _class_logits(axis: Any, sample: Sample, names: Sequence[str]) -> None:
    if sample.class_logits is None:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "no classifier", ha="center", transform=axis.transAxes, fontsize=8)
        return
    places = np.arange(len(names))
    bars = axis.barh(places, sample.class_logits, color=[CLASS_COLOURS[p] for p in places], height=0.6)
    axis.bar_label(bars, [f"{value:.2f}" for value in sample.class_logits], fontsize=7, padding=2)
    axis.set_yticks(places, names, fontsize=7)
    axis.invert_yaxis()
    axis.margins(x=0.25)
    axis.axvline(0, color="0.6", lw=0.8)
    true = "unknown" if sample.slice_class is None else names[sample.slice_class]
    axis.set_title(f"class logits; true class {true}", fontsize=8)


def _lesion_legend(axis: Any) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=LESION_COLOURS[int(one)], label=one.label) for one in LesionClass]
    axis.legend(handles=handles, fontsize=6, loc="upper left", bbox_to_anchor=(0, -0.02), ncols=1)
