from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.labels import LesionClass, SliceClass
from covid_ct_mask_net.training.synthesis.patients import implanted_patient, phantom_patient
from covid_ct_mask_net.training.synthesis.phantom import Chest


def test_phantom_patient_carries_its_truth() -> None:
    patient = phantom_patient("7", SliceClass.COVID_19, np.random.default_rng(4), 96, 10.0)
    shapes = {a.shape for a in (patient.hu, patient.lungs, patient.labels, patient.instances)}
    assert shapes == {patient.grid.shape}
    assert patient.volume_ml(LesionClass.GROUND_GLASS_OPACITY) > 1
    assert not patient.labels[patient.lungs == 0].any()
    classes = patient.slice_classes(least_pixels=10)
    shows = np.count_nonzero(patient.labels, axis=(1, 2)) >= 10
    assert set(classes[shows]) == {2}
    assert set(classes[~shows]) == {0}


def test_implants_leave_a_control_as_it_was(chest: Chest) -> None:
    patient = implanted_patient("1", SliceClass.CONTROL, chest, "real-00", np.random.default_rng(1))
    assert np.array_equal(patient.hu, np.rint(chest.hu).clip(-1024, 3071))
    assert not patient.labels.any()


def test_implants_change_lungs_only(chest: Chest) -> None:
    patient = implanted_patient("1", SliceClass.COVID_19, chest, "real-00", np.random.default_rng(1))
    changed = patient.hu != np.rint(chest.hu).clip(-1024, 3071)
    assert changed.any()
    assert not changed[chest.lungs == 0].any()
    assert patient.source == "real-00"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_masses_lie_in_the_lungs_and_are_no_lesions(chest: Chest, share: float) -> None:
    patient = implanted_patient("1", SliceClass.CONTROL, chest, "a", np.random.default_rng(1), share)
    denser = patient.hu > np.rint(chest.hu).clip(-1024, 3071)
    assert patient.masses == denser.any() == bool(share)
    assert not denser[chest.lungs == 0].any()
    assert not patient.labels.any()


def test_a_phantom_with_masses_has_lesions_beside_them() -> None:
    with_and_without = [
        phantom_patient("7", SliceClass.COVID_19, np.random.default_rng(4), 96, 10.0, share)
        for share in (1.0, 0.0)
    ]
    assert [patient.masses for patient in with_and_without] == [True, False]
    assert [patient.labels.any() for patient in with_and_without] == [True, True]
    assert np.array_equal(*(patient.lungs for patient in with_and_without))
