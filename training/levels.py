"""Answers by slice, by scan and by patient, and which class a scan or a patient is of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.metrics.calibration import probabilities
from covid_ct_mask_net.training.metrics.pooling import pool
from covid_ct_mask_net.training.predictions import UNSTATED, Predictions

LEVELS = ("slices", "scans", "patients")
# Class id of slices without disease: Control, or Negative in collections of two classes.
_HEALTHY = 0


@dataclass(frozen=True, eq=False)
class Answers:
    """What was asked and answered at one level.

    Attributes
    ----------
    true, predicted
        (n,) class ids of slices, scans or patients.
    patients
        (n,) whose each is; intervals resample them.
    left_out
        Scans (``patient/scan``) or patients without one class: they show two diseases.
    """

    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    patients: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of slices, scans or patients."""
        return len(self.true)


def answers(predictions: Predictions, level: str) -> Answers:
    """Return classes and answers by slice; by scan or patient from the mean probabilities of their slices.

    Slices are put together by patient and scan, whatever their classes, which nobody knows beforehand. A scan
    is of the class that its collection states, else of the disease that any of its slices shows; a patient is
    of the disease of any of the scans. Those with two diseases are left out by name.

    Parameters
    ----------
    predictions : Predictions
    level : str
        One of `LEVELS`.

    Raises
    ------
    UsageError
        If there is no such level.
    """
    if level not in LEVELS:
        raise UsageError("LEVEL", f"The level is {level!r}, but must be {', '.join(LEVELS)}.")
    if level == "slices":
        return Answers(predictions.true, predictions.predicted, predictions.patients)
    # Numbers of scans may begin anew with each patient.
    scans = [
        f"{patient}/{scan}" for patient, scan in zip(predictions.patients, predictions.scans, strict=True)
    ]
    classes = _scan_classes(predictions, scans)
    groups: Sequence[str] = scans
    if level == "patients":
        groups = predictions.patients
        classes = _patient_classes(classes, dict(zip(scans, predictions.patients, strict=True)))
    owner_of = dict(zip(groups, predictions.patients, strict=True))
    known = {name: one for name, one in classes.items() if one is not None}
    chosen = np.array([name in known for name in groups])
    kept = [name for name in groups if name in known]
    chances = probabilities(predictions.logits[chosen])
    pooled = pool(chances, [known[name] for name in kept], kept)
    return Answers(
        true=pooled.true,
        predicted=pooled.predicted,
        patients=tuple(owner_of[str(name)] for name in pooled.groups),
        left_out=tuple(name for name, one in classes.items() if one is None),
    )


def _scan_classes(predictions: Predictions, scans: Sequence[str]) -> dict[str, int | None]:
    shown: dict[str, set[int]] = {}
    stated: dict[str, set[int]] = {}
    given = predictions.scan_classes
    for index, scan in enumerate(scans):
        shown.setdefault(scan, set()).add(int(predictions.true[index]))
        if given is not None and given[index] != UNSTATED:
            stated.setdefault(scan, set()).add(int(given[index]))
    return {scan: _one_disease(stated.get(scan, classes)) for scan, classes in shown.items()}


def _patient_classes(scans: dict[str, int | None], owner_of: dict[str, str]) -> dict[str, int | None]:
    found: dict[str, set[int | None]] = {}
    for scan, one in scans.items():
        found.setdefault(owner_of[scan], set()).add(one)
    return {patient: _one_disease(classes) for patient, classes in found.items()}


def _one_disease(classes: Collection[int | None]) -> int | None:
    """Return the disease among classes, that of no disease if there is none, None if there are several."""
    diseases = [one for one in classes if one != _HEALTHY]
    if len(diseases) > 1:
        return None
    return diseases[0] if diseases else _HEALTHY
