"""Everything that is said about one evaluation, as plain values for ``metrics.json`` and for tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.levels import LEVELS, Answers, answers
from covid_ct_mask_net.training.metrics.ap_intervals import (
    coco_intervals,
    dice_intervals,
    original_intervals,
)
from covid_ct_mask_net.training.metrics.bootstrap import (
    Interval,
    classification_intervals,
    summed_intervals,
)
from covid_ct_mask_net.training.metrics.calibration import (
    brier_score,
    calibration_intervals,
    fit_temperature,
    probabilities,
    reliability,
)
from covid_ct_mask_net.training.metrics.classification import confusion_matrix, predictive_values
from covid_ct_mask_net.training.metrics.coco import CocoEvaluation
from covid_ct_mask_net.training.metrics.lesion_dice import LesionDice
from covid_ct_mask_net.training.metrics.original_ap import OriginalImageAP
from covid_ct_mask_net.training.metrics.protocols import Protocol, protocol
from covid_ct_mask_net.training.predictions import Predictions


def classification_report(
    predictions: Predictions,
    class_names: Sequence[str],
    *,
    validation: Predictions | None = None,
    prevalence: Sequence[float] | None = None,
    demographics: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return figures by slice, scan and patient, with intervals, calibration and predictive values.

    Which class scans and patients are of, and which are ``left_out``: `levels.answers`.

    Parameters
    ----------
    predictions : Predictions
    class_names : sequence of str
    validation : Predictions, optional
        Where the temperature is fitted; without it, calibration is reported as it is.
    prevalence : sequence of float, optional
        Of each class, at which PPV and NPV are reported too.
    demographics : mapping, optional
        Age, sex, country, scanner of the patients; "not available" is written where there are none.
    seed : int
        Of the bootstrap.
    """
    report: dict[str, Any] = {
        level: _level(answers(predictions, level), class_names, seed) for level in LEVELS
    }
    report["calibration"] = _calibration(predictions, validation, seed)
    if prevalence is not None:
        report["at_prevalence"] = _at_prevalence(predictions, class_names, prevalence, seed)
    report["demographics"] = dict(demographics) if demographics else "not available"
    return report


class DetectionReport:
    """Collect detections slice by slice; report COCO AP, the original's AP and Dice side by side.

    Parameters
    ----------
    mask_type : MaskType
    original : Protocol, optional
        Thresholds of the original's AP, the default protocol's if not given. RoI NMS and number of detections
        are those of the detector, which has to be set to them (`detector_evaluation.loaded_detector`).
    """

    def __init__(self, mask_type: MaskType, original: Protocol | None = None) -> None:
        self._protocol = protocol() if original is None else original
        self._coco = CocoEvaluation(mask_type)
        self._original = OriginalImageAP(self._protocol.thresholds, mask_type)
        self._dice = LesionDice(mask_type)
        self._patients: list[str] = []

    def update(
        self,
        detection: Mapping[str, Tensor],
        target: Mapping[str, Tensor],
        labels: NDArray[np.integer],
        patient: str = "",
    ) -> None:
        """Add one slice.

        Parameters
        ----------
        detection : mapping
            Output of the detector: boxes, labels, scores, masks (n, 1, H, W).
        target : mapping
            `targets.detection_target`.
        labels : (H, W)
            All lesions under the mask type, small ones too (`targets.merged_labels`).
        patient : str
            Whose slice it is; without it, the slice counts as a patient of its own.
        """
        self._coco.update(detection, target)
        self._original.update(detection, target)
        self._dice.update(detection, labels)
        self._patients.append(patient or f"slice {len(self._patients)}")

    def compute(self) -> dict[str, Any]:
        """Return ``coco_mask``, ``coco_box``, ``original_image_ap``, ``lesion_dice``, ``slices`` and more.

        ``protocol`` says with which thresholds the original's AP was computed; ``intervals`` holds the
        patient-clustered 95 % interval of each figure, by the same names.
        """
        intervals = {
            "coco_mask": coco_intervals(self._coco, self._patients),
            "coco_box": coco_intervals(self._coco, self._patients, masks=False),
            "original_image_ap": original_intervals(self._original, self._patients),
            "lesion_dice": dice_intervals(self._dice, self._patients),
        }
        return {
            "slices": len(self._patients),
            "patients": len(set(self._patients)),
            "protocol": self._protocol.to_dict(),
            "intervals": _plain(intervals),
            "coco_mask": self._coco.compute(masks=True).to_dict(),
            "coco_box": self._coco.compute(masks=False).to_dict(),
            "original_image_ap": self._original.compute(),
            "lesion_dice": self._dice.compute(),
        }


def interval_values(interval: Interval) -> dict[str, float]:
    """Return an interval as plain values."""
    return {"value": interval.estimate, "low": interval.low, "high": interval.high}


def _plain(intervals: Mapping[str, Any]) -> dict[str, Any]:
    """Return intervals in mappings within mappings as plain values."""
    return {
        name: _plain(one) if isinstance(one, Mapping) else interval_values(one)
        for name, one in intervals.items()
    }


def _level(found: Answers, class_names: Sequence[str], seed: int) -> dict[str, Any]:
    left_out = {"left_out": list(found.left_out)} if found.left_out else {}
    if not found.count:
        return {"count": 0, **left_out}
    classes = len(class_names)
    intervals = classification_intervals(found.true, found.predicted, found.patients, classes, seed=seed)
    return {
        "count": found.count,
        **left_out,
        "patients": intervals.patients,
        "confusion": confusion_matrix(found.true, found.predicted, classes).tolist(),
        "accuracy": interval_values(intervals.accuracy),
        "weighted_f1": interval_values(intervals.weighted_f1),
        "classes": {
            name: {
                "sensitivity": interval_values(intervals.sensitivity[c]),
                "ppv": interval_values(intervals.ppv[c]),
                "f1": interval_values(intervals.f1[c]),
            }
            for c, name in enumerate(class_names)
        },
    }


def _at_prevalence(
    predictions: Predictions, class_names: Sequence[str], prevalence: Sequence[float], seed: int
) -> dict[str, Any]:
    classes = len(class_names)

    def figures(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return PPV, then NPV, by class (m, 2 classes); NaN where a resample lacks a class."""
        found = np.full((len(confusions), 2 * classes), np.nan)
        for row, matrix in zip(found, confusions.reshape(-1, classes, classes), strict=True):
            if matrix.sum(axis=1).all():
                row[:] = np.concatenate(predictive_values(matrix, prevalence))
        return found

    # What is not known at all, for a class is missing, ends in a sentence here.
    predictive_values(confusion_matrix(predictions.true, predictions.predicted, classes), prevalence)
    cells = np.eye(classes**2)[predictions.true * classes + predictions.predicted]
    intervals = [
        _with_width(one) for one in summed_intervals(cells, figures, predictions.patients, seed=seed)
    ]
    return {
        name: {
            "prevalence": prevalence[c],
            "ppv": intervals[c].estimate,
            "npv": intervals[classes + c].estimate,
            "intervals": _plain({"ppv": intervals[c], "npv": intervals[classes + c]}),
        }
        for c, name in enumerate(class_names)
    }


def _with_width(interval: Interval) -> Interval:
    """Return an interval without bounds where all resamples agree: the patients are too few to tell."""
    if interval.low == interval.high:
        return Interval(interval.estimate, float("nan"), float("nan"))
    return interval


def _calibration(predictions: Predictions, validation: Predictions | None, seed: int) -> dict[str, Any]:
    def scores(temperature: float) -> dict[str, Any]:
        chances = probabilities(predictions.logits, temperature)
        diagram = reliability(chances, predictions.true)
        return {
            "temperature": temperature,
            "ece": diagram.ece,
            "brier": brier_score(chances, predictions.true),
            "intervals": _plain(
                calibration_intervals(chances, predictions.true, predictions.patients, seed=seed)
            ),
            "reliability": [
                {"confidence": float(c), "accuracy": float(a), "count": int(n)}
                for c, a, n in zip(diagram.confidence, diagram.accuracy, diagram.count, strict=True)
                if n
            ],
        }

    result = {"before": scores(1.0)}
    if validation is not None:
        result["after"] = scores(fit_temperature(validation.logits, validation.true))
    return result
