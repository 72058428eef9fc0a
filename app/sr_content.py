"""Content of the structured report: TID 1500 with one group for each thing that is said (PS3.16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from covid_ct_mask_net import RESEARCH_NOTICE, __version__
from covid_ct_mask_net.app import codes
from covid_ct_mask_net.app.outlines import SliceOutline
from covid_ct_mask_net.identifiers import derive_uid
from covid_ct_mask_net.labels import Side, SliceClass
from covid_ct_mask_net.results import LesionReport, ModelReport, StudyResult, TriageReport

MANUFACTURER = "COVID-CT-Mask-Net developers"
MODEL_NAME = "COVID-CT-Mask-Net"
_TEXT_LIMIT = 1024

Group = (
    sr.MeasurementsAndQualitativeEvaluations
    | sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | sr.PlanarROIMeasurementsAndQualitativeEvaluations
)


@dataclass(frozen=True)
class ReportLimits:
    """How much goes into one report; what is left out is said in it.

    Attributes
    ----------
    lesions
        Lesions described one by one, the most voluminous first.
    slices
        Positive slices named one by one, the most certain first.
    """

    lesions: int = 50
    slices: int = 20


def measurement_report(
    result: StudyResult,
    outlines: Sequence[SliceOutline],
    images: dict[str, Dataset],
    key: str,
    limits: ReportLimits,
) -> sr.MeasurementReport:
    """Return the content tree of a study's report.

    Parameters
    ----------
    result : StudyResult
        Assessed or not.
    outlines : sequence of SliceOutline
        Of the lesions of the result.
    images : dict
        Source headers by SOP Instance UID.
    key : str
        What tracking UIDs derive from.
    limits : ReportLimits
        How much is said one by one.
    """
    groups: list[Group]
    if result.triage is None:
        groups = [_not_assessed_group(result, key)]
    else:
        groups = [
            _triage_group(result, result.triage, key, limits),
            *_class_groups(result.triage, key),
            *_slice_groups(result, images, key, limits),
            *_lesion_groups(result, outlines, limits),
        ]
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(result.model)),
        procedure_reported=codes.PROCEDURE,
        imaging_measurements=groups,
        title=codes.REPORT_TITLE,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(codes.ENGLISH),
    )


def device_uid(model: ModelReport | None) -> str:
    """Return the UID of the device: this software with this model; another model is another device."""
    return derive_uid("device", __version__, model.sha256 if model else "none")


def algorithm(model: ModelReport) -> sr.AlgorithmIdentification:
    """Return the algorithm identification (TID 4019) of a model."""
    return sr.AlgorithmIdentification(
        name=model.name,
        version=model.version,
        parameters=[f"weights SHA-256 {model.sha256}", f"trained on: {model.trained_on}", model.notice],
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )


def _observer(model: ModelReport | None) -> sr.ObserverContext:
    return sr.ObserverContext(
        observer_type=codes.DEVICE,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid(model), name=MODEL_NAME, manufacturer_name=MANUFACTURER, model_name=MODEL_NAME
        ),
    )


def _not_assessed_group(result: StudyResult, key: str) -> Group:
    reasons = [f"Not assessed: {reason.code}. {reason.sentence}" for reason in result.reasons]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(key, "Study triage"),
        finding_type=codes.PNEUMONIA,
        finding_sites=[sr.FindingSite(codes.LUNG)],
        qualitative_evaluations=[sr.QualitativeEvaluation(codes.PROCESSING_SUMMARY, codes.NOT_PROCESSED)],
    )
    _comment(group, [*reasons, *_notices(result)])
    return group


def _triage_group(result: StudyResult, triage: TriageReport, key: str, limits: ReportLimits) -> Group:
    involvement = result.involvement
    measurements = [
        _measurement(codes.CERTAINTY_OF_IMPRESSION, 100 * max(triage.probabilities), codes.PERCENT),
        _measurement(codes.NUMBER_OF_LESIONS, len(result.lesions), codes.NO_UNITS),
    ]
    if involvement is not None:
        measurements.append(_measurement(codes.INVOLVEMENT, involvement.total.percent, codes.PERCENT))
        for side in Side:
            region = involvement.sides[side]
            sites = [sr.FindingSite(codes.LUNG, laterality=codes.SIDES[side])]
            measurements += [
                _measurement(codes.INVOLVEMENT, region.percent, codes.PERCENT, finding_sites=sites),
                _measurement(codes.VOLUME, region.lung_ml, codes.MILLILITRE, finding_sites=sites),
            ]
    summary = codes.NO_FINDINGS if triage.negative else codes.WITH_FINDINGS
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(key, "Study triage"),
        finding_type=codes.PNEUMONIA,
        finding_sites=[sr.FindingSite(codes.LUNG)],
        algorithm_id=algorithm(result.model) if result.model else None,
        measurements=measurements,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(codes.IMPRESSION, codes.SLICE_CLASSES[triage.predicted_class]),
            sr.QualitativeEvaluation(codes.PRIORITY, codes.PRIORITIES[triage.priority]),
            sr.QualitativeEvaluation(codes.PROCESSING_SUMMARY, summary),
        ],
    )
    texts = [
        f"Class: {triage.predicted_class.label}. Rule: {triage.pooling_rule}.",
        f"Priority: {triage.priority.value}, because {triage.priority_rule}.",
        f"{triage.positive_slices} of {triage.assessed_slices} lung slices are not of class Control.",
    ]
    if triage.negative:
        texts.append("No lesion was found and the class is Control.")
    if len(result.lesions) > limits.lesions:
        left_out = len(result.lesions) - limits.lesions
        texts.append(f"{left_out} further, smaller lesions are not listed one by one.")
    warnings = [f"Warning: {warning.code}. {warning.sentence}" for warning in result.warnings]
    _comment(group, [*texts, *warnings, *_notices(result)])
    return group


def _class_groups(triage: TriageReport, key: str) -> list[Group]:
    return [
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(key, f"Class {slice_class.label}"),
            finding_type=codes.SLICE_CLASSES[slice_class],
            measurements=[
                _measurement(codes.PROBABILITY, 100 * triage.probabilities[slice_class], codes.PERCENT)
            ],
        )
        for slice_class in SliceClass
    ]


def _slice_groups(
    result: StudyResult, images: dict[str, Dataset], key: str, limits: ReportLimits
) -> list[Group]:
    """Groups of the slices least like Control, each on its image, in table order."""
    positive = [
        s
        for s in result.slices
        if s.sop_instance_uid in images and max(s.probabilities) > s.probabilities[SliceClass.CONTROL]
    ]
    named = sorted(positive, key=lambda s: (s.probabilities[SliceClass.CONTROL], s.source_index))
    groups: list[Group] = []
    for evidence in sorted(named[: limits.slices], key=lambda s: s.source_index):
        image = images[str(evidence.sop_instance_uid)]
        likely = max(SliceClass, key=lambda c: evidence.probabilities[c])
        groups.append(
            sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(key, f"Slice {evidence.source_index + 1}"),
                finding_type=codes.SLICE_CLASSES[likely],
                measurements=[
                    _measurement(codes.PROBABILITY, 100 * evidence.probabilities[likely], codes.PERCENT)
                ],
                source_images=[sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)],
            )
        )
    return groups


def _lesion_groups(
    result: StudyResult, outlines: Sequence[SliceOutline], limits: ReportLimits
) -> list[Group]:
    by_lesion = {
        number: list(group)
        for number, group in groupby(
            sorted(outlines, key=lambda o: o.lesion_number), key=lambda o: o.lesion_number
        )
    }
    groups: list[Group] = []
    for lesion in result.lesions[: limits.lesions]:
        seen = by_lesion.get(lesion.number, [])
        if seen:
            groups += [_volume_group(result, lesion, seen), _area_group(result, lesion, seen)]
    return groups


def _volume_group(result: StudyResult, lesion: LesionReport, seen: Sequence[SliceOutline]) -> Group:
    """TID 1411: the lesion in three dimensions, outlined on every image it was seen on."""
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_regions=[
            region for outline in seen for region in (_region(outline, p) for p in outline.polygons)
        ],
        measurements=[
            _measurement(codes.VOLUME, lesion.volume_ml, codes.MILLILITRE),
            _measurement(codes.CERTAINTY_OF_FINDING, 100 * lesion.certainty, codes.PERCENT),
            _measurement(codes.ATTENUATION, lesion.mean_hu, codes.HOUNSFIELD, derivation=codes.MEAN),
        ],
        **_lesion_identity(result, lesion),
    )


def _area_group(result: StudyResult, lesion: LesionReport, seen: Sequence[SliceOutline]) -> Group:
    """TID 1410: the lesion on the image where it is largest."""
    largest = max(seen, key=lambda outline: outline.area_mm2)
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=_region(largest, max(largest.polygons, key=len)),
        measurements=[_measurement(codes.AREA, largest.area_mm2, codes.SQUARE_MILLIMETRE)],
        **_lesion_identity(result, lesion),
    )


def _lesion_identity(result: StudyResult, lesion: LesionReport) -> dict[str, object]:
    return {
        "tracking_identifier": sr.TrackingIdentifier(lesion.tracking_uid, lesion.tracking_id),
        "finding_type": codes.LESION_CLASSES[lesion.lesion_class],
        "finding_sites": [sr.FindingSite(codes.LUNG, laterality=codes.SIDES[lesion.side])],
        "algorithm_id": algorithm(result.model) if result.model else None,
    }


def _region(outline: SliceOutline, polygon: object) -> sr.ImageRegion:
    frames = None if outline.frame_number is None else [outline.frame_number]
    return sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=polygon,
        source_image=sr.SourceImageForRegion(
            outline.header.SOPClassUID, outline.header.SOPInstanceUID, frames
        ),
    )


def _measurement(name: Code, value: float, unit: Code, **details: object) -> sr.Measurement:
    return sr.Measurement(name=name, value=round(float(value), 4), unit=unit, **details)


def _tracking(key: str, identifier: str) -> sr.TrackingIdentifier:
    return sr.TrackingIdentifier(derive_uid(key, "tracking", identifier), identifier)


def _notices(result: StudyResult) -> list[str]:
    notices = [RESEARCH_NOTICE]
    if result.model is not None:
        notices.append(f"Model: {result.model.notice}.")
    return notices


def _comment(group: Group, texts: Sequence[str]) -> None:
    """Add text items to the container of a group."""
    for text in texts:
        item = sr.TextContentItem(
            name=codes.COMMENT, value=text[:_TEXT_LIMIT], relationship_type=sr.RelationshipTypeValues.CONTAINS
        )
        group[0].ContentSequence.append(item)
