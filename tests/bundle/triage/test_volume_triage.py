from __future__ import annotations

import numpy as np
import pytest

from builders.volumes import MODEL, SHAPE, evidence, grid, instance, two_lungs
from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.labels import LesionClass, Side, SliceClass, Zone
from covid_ct_mask_net.results import Priority
from covid_ct_mask_net.triage.pooling import Mean
from covid_ct_mask_net.triage.volume_triage import TriageOutcome, VolumeTriage

COVID = (0.0, 0.0, 8.0)
HU = np.full(SHAPE, -850, dtype=np.float32)


def outcome(*slices, key: str = "study", triage: VolumeTriage | None = None) -> TriageOutcome:
    return (triage or VolumeTriage(Mean()))(HU, two_lungs(), grid(), slices, key, MODEL)


SICK = (
    evidence(2, instance(2, 6, 8), logits=COVID),
    evidence(3, instance(3, 6, 8), logits=COVID),
    evidence(9, instance(9, 28, 8, lesion_class=LesionClass.CONSOLIDATION), logits=COVID),
)


def test_a_sick_volume() -> None:
    result = outcome(*SICK)
    assert result.triage.predicted_class is SliceClass.COVID_19
    assert result.triage.priority is Priority.URGENT
    assert (result.triage.assessed_slices, result.triage.positive_slices) == (3, 3)
    assert result.triage.negative is False
    first, second = result.lesions
    assert (first.tracking_id, first.side, first.zone) == ("GGO-1", Side.RIGHT, Zone.LOWER)
    assert (second.tracking_id, second.side, second.zone) == ("CONSOLIDATION-2", Side.LEFT, Zone.UPPER)
    assert first.slices == (2, 3)
    assert first.volume_ml == pytest.approx(32 * 0.01)
    assert first.mean_hu == -850
    # Voxel centres at column 7.5, row 9.5, slice 2.5; spacing 1, 2, 5 mm.
    assert first.centroid_mm == (7.5, 19.0, 12.5)
    assert np.count_nonzero(result.label_map) == 48


def test_detections_are_reported_in_source_pixels() -> None:
    (detection,) = outcome(*SICK).slices[0].detections
    assert detection.box == (6.0, 8.0, 10.0, 12.0)
    assert detection.area_mm2 == 32.0


def test_detections_that_are_no_lesion_are_not_reported() -> None:
    result = outcome(evidence(5, instance(5, score=0.3)))
    assert result.lesions == ()
    assert result.slices[0].detections == ()
    assert result.triage.negative is True


def test_a_lesion_makes_a_control_volume_not_negative() -> None:
    result = outcome(evidence(5, instance(5)))
    assert result.triage.predicted_class is SliceClass.CONTROL
    assert result.triage.negative is False


def test_order_and_study_decide_what_they_should() -> None:
    one, other = outcome(*SICK), outcome(*reversed(SICK))
    assert one.triage == other.triage
    assert one.lesions == other.lesions
    uids = {
        lesion.tracking_uid for key in ("study", "other study") for lesion in outcome(*SICK, key=key).lesions
    }
    assert len(uids) == 4


def test_temperature_softens_the_probabilities() -> None:
    sharp = outcome(*SICK).triage.probabilities
    soft = outcome(*SICK, triage=VolumeTriage(Mean(), temperature=4.0)).triage.probabilities
    assert 1 / 3 < soft[2] < sharp[2]


def test_volumes_that_get_no_class() -> None:
    with pytest.raises(NotAssessableError) as caught:
        outcome()
    assert caught.value.code == "NO_EVIDENCE"
    with pytest.raises(NotAssessableError) as caught:
        outcome(evidence(5, logits=(0.0, 0.0, 0.1)), triage=VolumeTriage(Mean(), min_confidence=0.5))
    assert caught.value.code == "LOW_CONFIDENCE"
    with pytest.raises(NotAssessableError) as caught:
        outcome(evidence(5, logits=(float("nan"), 0.0, 0.0)))
    assert caught.value.code == "MODEL_NON_FINITE"


def test_settings_outside_their_range_are_refused() -> None:
    with pytest.raises(UsageError, match="temperature"):
        VolumeTriage(Mean(), temperature=0.0)
    with pytest.raises(UsageError, match="min_confidence"):
        VolumeTriage(Mean(), min_confidence=1.0)
