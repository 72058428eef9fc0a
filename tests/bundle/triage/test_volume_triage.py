"""Evidence, lungs and HU put together into the triage of a volume."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from builders.evidence import CONSOLIDATION, GGO, SHAPE, evidence, grid, instance, two_lungs
from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.evidence import SliceEvidence
from covid_ct_mask_net.geometry import CanonicalGrid
from covid_ct_mask_net.labels import Side, SliceClass, Zone
from covid_ct_mask_net.results import ModelReport, Priority
from covid_ct_mask_net.slice_sampling import SlicePlan
from covid_ct_mask_net.triage.lesions import LesionRules
from covid_ct_mask_net.triage.pooling import CappedExtentMean, CappedTopKMean, Max, Mean
from covid_ct_mask_net.triage.priority import PriorityRules
from covid_ct_mask_net.triage.support import LesionSupport
from covid_ct_mask_net.triage.volume_triage import TriageOutcome, VolumeTriage

MODEL = ModelReport("m", "1", "abc", "nothing", "a test")
GRID = grid()
HU = np.full(SHAPE, -800.0, np.float32)
HU[:, :, 4] = -600.0
HEALTHY, COVID = (4.0, 0.0, 0.0), (0.0, 0.0, 4.0)


def _slices() -> list[SliceEvidence]:
    """A consolidation in the right lung on slices 3 and 4, a GGO in the left one on slice 10."""
    found = {
        3: [instance(3, (10, 15), (5, 13), CONSOLIDATION, 0.8)],
        4: [instance(4, (10, 15), (5, 13), CONSOLIDATION, 0.95), instance(4, (20, 21), (5, 6), GGO, 0.99)],
        10: [instance(10, (10, 14), (25, 31), GGO, 0.7)],
    }
    return [
        evidence(k, *found.get(k, ()), logits=COVID if k in found else HEALTHY) for k in range(12)
    ]  # fmt: skip


def _triage(
    slices: list[SliceEvidence], triage: VolumeTriage | None = None, **changes: object
) -> TriageOutcome:
    arguments = {"hu": HU, "lungs": two_lungs(), "grid": GRID, "source_key": "key", "model": MODEL} | changes
    return (triage or VolumeTriage(Mean()))(evidence=slices, **arguments)  # type: ignore[arg-type]


def test_lesions_are_described() -> None:
    first, second = _triage(_slices()).lesions
    assert (first.number, first.tracking_id, first.lesion_class) == (1, "CONSOLIDATION-1", CONSOLIDATION)
    assert (first.side, first.zone) == (Side.RIGHT, Zone.MIDDLE)
    assert (first.first_slice, first.last_slice, first.slices) == (3, 4, (3, 4))
    assert first.volume_ml == 0.8
    assert first.mean_hu == -700.0
    assert first.certainty == 0.95
    # Canonical voxel (8.5, 12, 3.5): RAS (20 - 8.5, 30 - 24, -100 + 17.5), LPS negates the first two.
    assert first.centroid_mm == (-11.5, -6.0, -82.5)
    assert (second.tracking_id, second.side, second.zone, second.volume_ml) == (
        "GGO-2",
        Side.LEFT,
        Zone.UPPER,
        0.24,
    )


def test_lesions_pairs_mask_and_detections_agree() -> None:
    outcome = _triage(_slices())
    assert len(outcome.lesions) == len(outcome.linked) == 2
    assert np.count_nonzero(outcome.label_map == 2) == 80
    assert np.count_nonzero(outcome.label_map == 1) == 24
    # The GGO of one pixel was too small: it is no detection of the result either.
    assert [len(s.detections) for s in outcome.slices] == [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0]
    assert outcome.slices[3].detections[0].area_mm2 == 80.0
    assert outcome.involvement.total.lesion_ml == 1.04


def test_slices_are_reported_from_inferior_to_superior() -> None:
    outcome = _triage(_slices()[::-1])
    assert [s.source_index for s in outcome.slices] == list(range(12))
    assert [s.position_mm for s in outcome.slices] == [-100.0 + 5 * k for k in range(12)]


def test_class_probabilities_and_rule() -> None:
    outcome = _triage(_slices(), VolumeTriage(Max()))
    triage = outcome.triage
    assert triage.predicted_class is SliceClass.COVID_19
    share = np.exp(4.0) / (np.exp(4.0) + 2.0)
    assert triage.probabilities[2] == pytest.approx(share)
    assert (triage.assessed_slices, triage.positive_slices) == (12, 3)
    assert triage.pooling_rule == Max().describe()
    assert triage.priority is Priority.URGENT
    assert not triage.negative


def test_negative_is_control_without_lesions() -> None:
    healthy = [evidence(k, logits=HEALTHY) for k in range(12)]
    clear = _triage(healthy)
    assert clear.triage.negative
    assert clear.triage.priority is Priority.ROUTINE
    assert clear.lesions == ()
    assert not clear.label_map.any()
    lesion = [*healthy[:4], evidence(4, instance(4, (10, 15), (5, 13)), logits=HEALTHY), *healthy[5:]]
    assert not _triage(lesion).triage.negative


def test_the_order_of_slices_and_instances_does_not_matter() -> None:
    expected = _triage(_slices())
    shuffled = [dataclasses.replace(e, instances=e.instances[::-1]) for e in _slices()]
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(12)
        found = _triage([shuffled[k] for k in order])
        assert found.triage == expected.triage
        assert found.lesions == expected.lesions
        assert found.slices == expected.slices
        assert found.involvement == expected.involvement


def test_tracking_uids_depend_on_source_and_model_alone() -> None:
    uids = [lesion.tracking_uid for lesion in _triage(_slices()).lesions]
    assert uids == [lesion.tracking_uid for lesion in _triage(_slices()).lesions]
    assert len(set(uids)) == 2
    for change in ({"source_key": "other"}, {"model": dataclasses.replace(MODEL, sha256="def")}):
        assert not set(uids) & {lesion.tracking_uid for lesion in _triage(_slices(), **change).lesions}


def test_boxes_go_back_to_source_pixels() -> None:
    """A source whose x is flipped: column 5 to 13 of 40 becomes 27 to 35."""
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = SHAPE[0] - 1
    source = CanonicalGrid(GRID.affine, GRID.affine @ flip)
    outcome = _triage(_slices(), grid=source)
    assert outcome.slices[3].detections[0].box == (27.0, 10.0, 35.0, 15.0)
    assert _triage(_slices()).slices[3].detections[0].box == (5.0, 10.0, 13.0, 15.0)


def test_temperature_softens_and_keeps_the_class() -> None:
    warm = _triage(_slices(), VolumeTriage(Max(), temperature=4.0)).triage
    assert warm.predicted_class is SliceClass.COVID_19
    assert warm.probabilities[2] == pytest.approx(np.e / (np.e + 2.0))


def test_large_logits_do_not_overflow() -> None:
    slices = [evidence(k) for k in range(12)]
    slices[0] = dataclasses.replace(slices[0], logits=(-2000.0, 0.0, 2000.0))
    assert _triage(slices, VolumeTriage(Max())).triage.probabilities == (0.0, 0.0, 1.0)


def test_what_gives_no_answer_is_not_assessed() -> None:
    with pytest.raises(NotAssessableError) as caught:
        _triage([])
    assert caught.value.code == "NO_EVIDENCE"
    broken = dataclasses.replace(evidence(0), logits=(float("nan"), 0.0, 0.0))
    with pytest.raises(NotAssessableError) as caught:
        _triage([broken])
    assert caught.value.code == "MODEL_NON_FINITE"
    with pytest.raises(NotAssessableError, match=r"0\.333; at least 0\.5") as caught:
        _triage([evidence(0)], VolumeTriage(Mean(), min_confidence=0.5))
    assert caught.value.code == "LOW_CONFIDENCE"


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"temperature": -1.0}, {"min_confidence": 1.0}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        VolumeTriage(Mean(), **wrong)


def test_lesion_rules_are_used() -> None:
    strict = VolumeTriage(Mean(), lesion_rules=LesionRules(min_score=0.9))
    (lesion,) = _triage(_slices(), strict).lesions
    assert lesion.slices == (4,)


def _random_evidence(seed: int, sick: float) -> list[SliceEvidence]:
    """Slices 1 to 10, each urgent with a given probability, some with a lesion."""
    random = np.random.default_rng(seed)
    chosen = []
    for index in range(1, 11):
        logits = random.normal(0.0, 2.0, 3) + (
            [0.0, 6.0 * random.random(), 6.0] if random.random() < sick else [6.0, 0.0, 0.0]
        )
        lesions = [instance(index, (10, 14), (5, 9), GGO, 0.9)] if random.random() < 0.5 else []
        chosen.append(evidence(index, *lesions, logits=tuple(logits.tolist())))
    return chosen


@pytest.mark.parametrize("support", [LesionSupport(), LesionSupport(0.8, 0.5)], ids=["", "support"])
@pytest.mark.parametrize("sick", [0.0, 0.3, 0.6, 1.0])
def test_adaptive_reading_gives_the_class_probabilities_and_priority_of_all(
    sick: float, support: LesionSupport
) -> None:
    triage = VolumeTriage(CappedExtentMean(10.0, 0.9), support=support)
    stopped = 0
    for seed in range(40):
        by_slice = {one.slice_index: one for one in _random_evidence(seed, sick)}
        everything = SlicePlan.parse("all").sample(sorted(by_slice), 5.0)
        adaptive = SlicePlan.parse("adaptive").sample(sorted(by_slice), 5.0)
        reading = [by_slice[index] for index in adaptive.order]
        read = next(
            (reading[:n] for n in range(adaptive.first_pass, 11) if triage.settled(reading[:n], adaptive)),
            reading,
        )
        stopped += len(read) < len(reading)
        whole = _triage(reading, triage, sampling=everything)
        early = _triage(read, triage, sampling=adaptive)
        for name in ("predicted_class", "probabilities", "priority", "priority_rule", "negative"):
            assert getattr(early.triage, name) == getattr(whole.triage, name), name
        assert early.sampling is not None
        assert early.sampling.skipped_slices == len(reading) - len(read)
    assert (stopped > 0) == (sick > 0.0), "control studies are read to the end, others are not all"


def test_slices_without_a_lesion_count_in_part() -> None:
    # Seven of twelve slices say COVID-19, on two of them a lesion is outlined.
    lesions = {k: [instance(k, (10, 14), (5, 9), GGO, 0.9)] for k in (3, 4)}
    slices = [evidence(k, *lesions.get(k, ()), logits=COVID if k < 7 else HEALTHY) for k in range(12)]
    plain = _triage(slices).triage
    counted = _triage(slices, VolumeTriage(Mean(), support=LesionSupport(0.8, 0.5))).triage
    assert plain.predicted_class is SliceClass.COVID_19
    assert counted.predicted_class is SliceClass.CONTROL
    said = "; slices on which no lesion scores 0.8 or more count with 0.5 of their probability of disease"
    assert counted.pooling_rule.endswith(said)
    assert counted.positive_slices == plain.positive_slices == 7, "what S says of a slice is shown as it is"
    sampling = SlicePlan.parse("adaptive").sample(range(12), 5.0)
    rule = CappedExtentMean(15.0, 0.5)
    rules = PriorityRules(urgent_probability=0.5)
    assert VolumeTriage(rule, priority_rules=rules).settled(slices[:3], sampling)
    alone = VolumeTriage(rule, priority_rules=rules, support=LesionSupport(0.8, 0.25))
    assert not alone.settled(slices[:3], sampling), "no lesion on any of them"
    assert alone.missing(slices[:3], sampling) == 3
    assert alone.missing(slices[:5], sampling) == 1


def test_a_rule_that_is_settled_below_urgent_does_not_stop() -> None:
    slices = [evidence(k, logits=(0.0, 0.0, 1.5)) for k in (1, 2, 3)]
    sampling = SlicePlan.parse("adaptive").sample(range(10), 5.0)
    rules = PriorityRules(urgent_probability=0.5)
    assert VolumeTriage(CappedTopKMean(2, 0.5), priority_rules=rules).settled(slices, sampling)
    assert VolumeTriage(CappedExtentMean(15.0, 0.5), priority_rules=rules).settled(slices, sampling)
    assert not VolumeTriage(CappedExtentMean(20.0, 0.5), priority_rules=rules).settled(slices, sampling)
    assert VolumeTriage(CappedExtentMean(15.0, 0.5), priority_rules=rules).missing(slices, sampling) == 0
    assert VolumeTriage(CappedExtentMean(35.0, 0.5), priority_rules=rules).missing(slices, sampling) == 4
    unsure = VolumeTriage(CappedTopKMean(2, 0.5))
    assert not unsure.settled(slices, sampling), "lesions elsewhere could make it urgent"
    broken = [evidence(1, logits=(np.nan, 0.0, 0.0)), *slices]
    assert not VolumeTriage(CappedTopKMean(2, 0.5), priority_rules=PriorityRules(0.5)).settled(
        broken, sampling
    )
    assert VolumeTriage(CappedTopKMean(2, 0.5)).missing(broken, sampling) is None


def test_volumes_are_estimated_from_the_slices_read() -> None:
    """Lesion and lungs are the same on all slices: what is estimated from some is what all of them give."""
    slices = {k: evidence(k, instance(k, (10, 14), (5, 9), GGO, 0.9)) for k in range(9)}
    whole = _triage(list(slices.values()))
    sampling = SlicePlan.parse("every=15").sample(range(9), 5.0)
    some = _triage([slices[k] for k in sampling.order], sampling=sampling)
    assert some.involvement.total == whole.involvement.total
    (lesion,) = some.lesions
    assert lesion.volume_ml == whole.lesions[0].volume_ml
    assert lesion.slices == (0, 3, 6), "linked over the slices left out"
    assert np.flatnonzero(some.label_map.any(axis=(0, 1))).tolist() == [0, 3, 6], "drawn where it was seen"
    assert some.sampling is not None
    assert "estimates" in some.sampling.sentence


def test_what_a_millimetre_weighs_does_not_depend_on_how_many_slices_are_read() -> None:
    sick = range(4, 7)
    by_slice = [evidence(k, logits=(0.0, 0.0, 6.0) if k in sick else (6.0, 0.0, 0.0)) for k in range(12)]
    triage = VolumeTriage(CappedExtentMean(3.0))
    for setting in ("all", "every=2"):
        sampling = SlicePlan.parse(setting).sample(range(12), 1.0)
        read = [by_slice[index] for index in sampling.order]
        grid_of = _triage(read, triage, sampling=sampling)
        assert grid_of.triage.predicted_class is SliceClass.COVID_19, setting
    assert "3 mm of lung least like Control (2 slices, 2 mm apart)" in grid_of.triage.pooling_rule
