"""Intervals of the figures of lesions by resampling patients, each under the name of its figure."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.training.metrics.bootstrap import REPLICATES as MANY_REPLICATES
from covid_ct_mask_net.training.metrics.bootstrap import clustered_intervals
from covid_ct_mask_net.training.metrics.coco import AveragePrecision, CocoEvaluation
from covid_ct_mask_net.training.metrics.lesion_dice import LesionDice
from covid_ct_mask_net.training.metrics.original_ap import OriginalImageAP

# AP is accumulated anew for each resample, which takes longer than counting classes.
REPLICATES = 300


def coco_intervals(
    evaluation: CocoEvaluation,
    patients: Sequence[str],
    *,
    masks: bool = True,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> dict[str, Any]:
    """Return intervals of COCO's AP; detections are matched once and accumulated anew.

    Parameters
    ----------
    evaluation : CocoEvaluation
    patients : sequence of str
        Whose each slice is, in the order they were added.
    masks : bool
        Of masks, or of boxes.
    seed, replicates : int

    Returns
    -------
    dict
        An `Interval` in the place of each figure of `AveragePrecision.to_dict`.
    """
    matched = evaluation.matched("segm" if masks else "bbox")
    slices, classes = len(patients), len(matched.params.catIds)
    per_class = [matched.evalImgs[c * slices : (c + 1) * slices] for c in range(classes)]

    def accumulated(items: NDArray[np.int64]) -> dict[str, Any]:
        # A slice that is drawn twice counts as two slices.
        matched.evalImgs = [found[item] for found in per_class for item in items]
        matched.params.imgIds = list(range(len(items)))
        matched._paramsEval = matched.params
        with contextlib.redirect_stdout(io.StringIO()):
            matched.accumulate()
        return AveragePrecision.of(matched.eval["precision"][..., 0, 0], evaluation.names).to_dict()

    return _intervals(accumulated, patients, seed, replicates)


def original_intervals(
    evaluation: OriginalImageAP, patients: Sequence[str], *, seed: int = 0, replicates: int = REPLICATES
) -> dict[str, Any]:
    """Return an `Interval` in the place of each figure of `OriginalImageAP.compute`."""
    values = evaluation.by_slice()
    return _intervals(lambda items: evaluation.figures_of(values[items]), patients, seed, replicates)


def dice_intervals(
    evaluation: LesionDice, patients: Sequence[str], *, seed: int = 0, replicates: int = MANY_REPLICATES
) -> dict[str, Any]:
    """Return an `Interval` in the place of each figure of `LesionDice.compute`."""
    pixels = evaluation.by_slice()
    return _intervals(lambda items: evaluation.figures_of(pixels[items]), patients, seed, replicates)


def _intervals(
    figures: Callable[[NDArray[np.int64]], Mapping[str, Any]],
    patients: Sequence[str],
    seed: int,
    replicates: int,
) -> dict[str, Any]:
    """Return an interval in the place of each number that ``figures`` gives, in mappings within mappings."""
    found = clustered_intervals(
        lambda items: list(_numbers(figures(items))), patients, seed=seed, replicates=replicates
    )
    return _filled(figures(np.arange(len(patients))), iter(found))


def _numbers(figures: Mapping[str, Any]) -> Iterator[float]:
    for one in figures.values():
        if isinstance(one, Mapping):
            yield from _numbers(one)
        else:
            yield one


def _filled(figures: Mapping[str, Any], values: Iterator[Any]) -> dict[str, Any]:
    return {
        name: _filled(one, values) if isinstance(one, Mapping) else next(values)
        for name, one in figures.items()
    }
