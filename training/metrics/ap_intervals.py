"""Intervals of average precision by resampling patients."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.training.metrics.bootstrap import Interval, clustered_intervals
from covid_ct_mask_net.training.metrics.coco import CocoEvaluation
from covid_ct_mask_net.training.metrics.original_ap import OriginalImageAP

# AP is accumulated anew for each resample, which takes longer than counting classes.
REPLICATES = 300
# Which IoU thresholds each figure averages over.
_FIGURES = {"ap": slice(None), "ap50": slice(0, 1), "ap75": slice(5, 6)}


def coco_intervals(
    evaluation: CocoEvaluation,
    patients: Sequence[str],
    *,
    masks: bool = True,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> dict[str, Interval]:
    """Return intervals of COCO's AP, AP50 and AP75; detections are matched once and accumulated anew.

    Parameters
    ----------
    evaluation : CocoEvaluation
    patients : sequence of str
        Whose each slice is, in the order they were added.
    masks : bool
        Of masks, or of boxes.
    seed, replicates : int
    """
    matched = evaluation.matched("segm" if masks else "bbox")
    slices, classes = len(patients), len(matched.params.catIds)
    per_class = [matched.evalImgs[c * slices : (c + 1) * slices] for c in range(classes)]

    def accumulated(items: NDArray[np.int64]) -> NDArray[np.float64]:
        # A slice that is drawn twice counts as two slices.
        matched.evalImgs = [found[item] for found in per_class for item in items]
        matched.params.imgIds = list(range(len(items)))
        matched._paramsEval = matched.params
        with contextlib.redirect_stdout(io.StringIO()):
            matched.accumulate()
        precision: NDArray[np.float64] = matched.eval["precision"][..., 0, 0]
        return precision

    return _intervals(accumulated, patients, seed, replicates)


def original_intervals(
    evaluation: OriginalImageAP, patients: Sequence[str], *, seed: int = 0, replicates: int = REPLICATES
) -> dict[str, Interval]:
    """Return intervals of the original's AP, AP50 and AP75."""
    values = evaluation.by_slice()
    return _intervals(lambda items: values[items].T, patients, seed, replicates)


def _intervals(
    values: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    patients: Sequence[str],
    seed: int,
    replicates: int,
) -> dict[str, Interval]:
    """Return the interval of each figure; ``values`` gives (IoU thresholds, ...), -1 where undefined."""

    def figures(items: NDArray[np.int64]) -> list[float]:
        found = values(items)
        return [_mean(found[chosen]) for chosen in _FIGURES.values()]

    intervals = clustered_intervals(figures, patients, seed=seed, replicates=replicates)
    return dict(zip(_FIGURES, intervals, strict=True))


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")
