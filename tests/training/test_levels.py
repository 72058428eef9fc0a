"""Which class scans and patients are of, and that labels put no slices together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.levels import answers
from covid_ct_mask_net.training.predictions import UNSTATED, Predictions


def _predictions(*slices: tuple[str, str, int, int]) -> Predictions:
    """Return predictions from (patient, scan, class, answer)."""
    patients, scans, true, guess = zip(*slices, strict=True)
    files = tuple(f"{index}.png" for index in range(len(slices)))
    return Predictions(
        files, patients, scans, np.arange(len(slices)), np.array(true), 4 * np.eye(3)[list(guess)]
    )


def test_a_scan_is_of_the_disease_that_any_slice_shows() -> None:
    found = answers(
        _predictions(("a", "1", 0, 0), ("a", "1", 2, 2), ("a", "1", 2, 2), ("b", "1", 0, 0)), "scans"
    )
    assert (found.true.tolist(), found.predicted.tolist()) == ([2, 0], [2, 0])
    # Scan 1 of two patients is two scans.
    assert (found.patients, found.count, found.left_out) == (("a", "b"), 2, ())


def test_the_class_that_the_collection_states_comes_first() -> None:
    clear = _predictions(("a", "1", 0, 0), ("a", "1", 0, 0), ("b", "2", 1, 1))
    stated = dataclasses.replace(clear, scan_classes=np.array([2, 2, UNSTATED]))
    assert answers(clear, "scans").true.tolist() == [0, 1]
    assert answers(stated, "scans").true.tolist() == [2, 1]
    assert answers(stated, "patients").true.tolist() == [2, 1]


def test_a_patient_is_of_the_disease_of_any_scan() -> None:
    found = _predictions(("a", "1", 0, 0), ("a", "2", 1, 1), ("a", "2", 1, 1))
    assert answers(found, "scans").true.tolist() == [0, 1]
    assert answers(found, "scans").patients == ("a", "a")
    patients = answers(found, "patients")
    assert (patients.true.tolist(), patients.predicted.tolist(), patients.patients) == ([1], [1], ("a",))


def test_two_diseases_are_left_out_by_name() -> None:
    found = _predictions(
        ("a", "1", 1, 1), ("a", "2", 2, 2), ("b", "3", 1, 1), ("b", "3", 2, 2), ("c", "4", 0, 0)
    )
    scans, patients = answers(found, "scans"), answers(found, "patients")
    assert (scans.true.tolist(), scans.left_out) == ([1, 2, 0], ("b/3",))
    assert (patients.true.tolist(), patients.left_out) == ([0], ("a", "b"))
    assert answers(found, "slices").count == 5


def test_levels_are_three() -> None:
    with pytest.raises(UsageError, match="slices, scans, patients"):
        answers(_predictions(("a", "1", 0, 0)), "lungs")
