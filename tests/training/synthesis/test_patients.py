from __future__ import annotations

import numpy as np

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
