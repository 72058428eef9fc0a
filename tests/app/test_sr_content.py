from __future__ import annotations

import dataclasses

import pytest
from pydicom.dataset import Dataset

from builders.result_set import made
from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.app.segmentation import Segment, Segmentation
from covid_ct_mask_net.app.sr_content import ReportContent, ReportLimits
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.slice_sampling import SlicePlan


def items(item: Dataset) -> list[Dataset]:
    return [item] + [deeper for child in item.get("ContentSequence", []) for deeper in items(child)]


def by_name(name: str, *, lesions: bool = True) -> list[Dataset]:
    found = items(made(lesions=lesions).read("sr.dcm"))
    return [
        i
        for i in found
        if "ConceptNameCodeSequence" in i and i.ConceptNameCodeSequence[0].CodeMeaning == name
    ]


def value(item: Dataset) -> str:
    if item.ValueType == "NUM":
        return str(item.MeasuredValueSequence[0].NumericValue)
    return str(item.get("TextValue", "") or item.get("UID", "") or item.ConceptCodeSequence[0].CodeValue)


def test_the_study_triage() -> None:
    assert [value(i) for i in by_name("Impression")] == ["840544004"]
    assert [float(value(i)) for i in by_name("Number of lesions")] == [2]
    assert [value(i) for i in by_name("CAD Processing and Findings Summary")] == ["111242"]
    probabilities = [float(value(i)) for i in by_name("Probability")][:3]
    assert sum(probabilities) == pytest.approx(100, abs=0.1)


def test_each_lesion_has_its_own_tracking_uid_in_report_and_segmentation() -> None:
    one = made()
    ours = {lesion.tracking_uid for lesion in one.result.lesions}
    assert ours <= {value(i) for i in by_name("Tracking Unique Identifier")}
    assert len(ours) == 2


def test_measured_volumes_are_those_of_the_result() -> None:
    volumes = {round(float(value(i)), 3) for i in by_name("Volume")}
    assert {round(lesion.volume_ml, 3) for lesion in made().result.lesions} <= volumes


def test_a_negative_study_is_said_to_be_negative() -> None:
    assert [value(i) for i in by_name("CAD Processing and Findings Summary", lesions=False)] == ["111241"]
    texts = [value(i) for i in by_name("Conclusion", lesions=False)]
    assert any("No lesion was found" in text for text in texts)


def test_every_report_says_for_what_it_is() -> None:
    assert RESEARCH_NOTICE in [value(i) for i in by_name("Comment")]


def test_a_report_on_some_slices_says_so_and_gives_no_method_for_its_estimates() -> None:
    one = made()
    sampling = SlicePlan.parse("every=10").sample(range(20), 5.0).report(range(0, 20, 2))
    limits = ReportLimits()
    for sampled in (False, True):
        result = dataclasses.replace(one.result, sampling=sampling if sampled else None)
        segment = Segment(1, LesionClass.GROUND_GLASS_OPACITY, "All", "1.2.3", 4.0)
        segmentation = Segmentation(one.read("seg.dcm"), (segment,), "1.2.3.4")
        content = ReportContent(result, (), one.images, one.objects.uids, limits, segmentation)
        found = items(content.build()[0])
        texts = [str(item.TextValue) for item in found if "TextValue" in item]
        assert (sampling.sentence in texts) == sampled
        names = [i.ConceptNameCodeSequence[0].CodeMeaning for i in found if "ConceptNameCodeSequence" in i]
        assert ("Measurement Method" in names) != sampled
        volumes = [
            float(value(i))
            for i in found
            if i.ValueType == "NUM" and i.ConceptNameCodeSequence[0].CodeMeaning == "Volume"
        ]
        assert (4.0 in volumes) != sampled, "the sum of the voxels of the segmentation"
