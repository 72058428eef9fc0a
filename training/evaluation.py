"""Everything that is said about one evaluation, as plain values for ``metrics.json`` and for tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.metrics.ap_intervals import coco_intervals, original_intervals
from covid_ct_mask_net.training.metrics.bootstrap import Interval, classification_intervals
from covid_ct_mask_net.training.metrics.calibration import (
    brier_score,
    fit_temperature,
    probabilities,
    reliability,
)
from covid_ct_mask_net.training.metrics.classification import confusion_matrix, predictive_values
from covid_ct_mask_net.training.metrics.coco import CocoEvaluation
from covid_ct_mask_net.training.metrics.lesion_dice import LesionDice
from covid_ct_mask_net.training.metrics.original_ap import OriginalImageAP
from covid_ct_mask_net.training.metrics.pooling import pool
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
    classes = len(class_names)
    chances = probabilities(predictions.logits)
    report: dict[str, Any] = {
        "slices": _level(predictions.true, predictions.predicted, predictions.patients, class_names, seed)
    }
    # A patient with slices of two classes (iCTCF) counts once for each, and is resampled as one.
    by_class = [f"{c}/{p}" for c, p in zip(predictions.true, predictions.patients, strict=True)]
    scan_names = [f"{owner}/{scan}" for owner, scan in zip(by_class, predictions.scans, strict=True)]
    for level, groups in (("scans", scan_names), ("patients", by_class)):
        pooled = pool(chances, predictions.true, groups)
        patient_of = dict(zip(groups, predictions.patients, strict=True))
        owners = [patient_of[str(name)] for name in pooled.groups]
        report[level] = _level(pooled.true, pooled.predicted, owners, class_names, seed)
    report["calibration"] = _calibration(predictions, validation)
    if prevalence is not None:
        ppv, npv = predictive_values(
            confusion_matrix(predictions.true, predictions.predicted, classes), prevalence
        )
        report["at_prevalence"] = {
            name: {"prevalence": prevalence[c], "ppv": float(ppv[c]), "npv": float(npv[c])}
            for c, name in enumerate(class_names)
        }
    report["demographics"] = dict(demographics) if demographics else "not available"
    return report


class DetectionReport:
    """Collect detections slice by slice; report COCO AP, the original's AP and Dice side by side.

    Parameters
    ----------
    mask_type : MaskType
    original_confidence : float
        Score threshold of the original's AP.
    """

    def __init__(self, mask_type: MaskType, original_confidence: float = 0.75) -> None:
        self._coco = CocoEvaluation(mask_type)
        self._original = OriginalImageAP(original_confidence)
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

        ``intervals`` holds patient-clustered 95 % intervals of mask AP, COCO's and the original's.
        """
        intervals = {
            "coco_mask": coco_intervals(self._coco, self._patients),
            "original_image_ap": original_intervals(self._original, self._patients),
        }
        return {
            "slices": len(self._patients),
            "patients": len(set(self._patients)),
            "intervals": {
                kind: {name: interval_values(one) for name, one in found.items()}
                for kind, found in intervals.items()
            },
            "coco_mask": self._coco.compute(masks=True).to_dict(),
            "coco_box": self._coco.compute(masks=False).to_dict(),
            "original_image_ap": self._original.compute(),
            "lesion_dice": self._dice.compute(),
        }


def interval_values(interval: Interval) -> dict[str, float]:
    """Return an interval as plain values."""
    return {"value": interval.estimate, "low": interval.low, "high": interval.high}


def _level(
    true: NDArray[np.int64],
    predicted: NDArray[np.int64],
    patients: Sequence[str],
    class_names: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    intervals = classification_intervals(true, predicted, patients, len(class_names), seed=seed)
    return {
        "count": len(true),
        "patients": intervals.patients,
        "confusion": confusion_matrix(true, predicted, len(class_names)).tolist(),
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


def _calibration(predictions: Predictions, validation: Predictions | None) -> dict[str, Any]:
    def scores(temperature: float) -> dict[str, Any]:
        chances = probabilities(predictions.logits, temperature)
        diagram = reliability(chances, predictions.true)
        return {
            "temperature": temperature,
            "ece": diagram.ece,
            "brier": brier_score(chances, predictions.true),
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
