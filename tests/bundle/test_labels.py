from __future__ import annotations

from covid_ct_mask_net.labels import SLICE_CLASS_NAMES, LesionClass, MaskType, SliceClass


def test_ids_are_those_of_the_paper() -> None:
    assert [(int(c), c.label) for c in SliceClass] == [
        (0, "Control"),
        (1, "Common Pneumonia"),
        (2, "COVID-19"),
    ]
    assert SLICE_CLASS_NAMES == ("Control", "Common Pneumonia", "COVID-19")
    assert [(int(c), c.label) for c in LesionClass] == [(1, "Ground-glass opacity"), (2, "Consolidation")]


def test_detector_classes_with_background() -> None:
    assert {t.value: t.num_classes for t in MaskType} == {"both": 3, "ggo": 2, "merge": 2}
