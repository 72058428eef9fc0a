"""Content of the structured report: TID 1500 with one group for each thing that is said (PS3.16)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
from highdicom import sr
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as standard
from pydicom.sr.coding import Code

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.app import codes
from covid_ct_mask_net.app.graphic_data import PLACEHOLDER, with_points
from covid_ct_mask_net.app.outlines import SliceOutline
from covid_ct_mask_net.app.result_object import MANUFACTURER, MODEL_NAME
from covid_ct_mask_net.app.segmentation import Segment, Segmentation
from covid_ct_mask_net.app.uids import ResultUids, device_uid
from covid_ct_mask_net.labels import Side, SliceClass
from covid_ct_mask_net.results import LesionReport, ModelReport, SliceReport, StudyResult, TriageReport

# Value lengths of PS3.5 6.2: texts of the report are UT, algorithm parameters too; readable is shorter.
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


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Builds the content tree of a study's report.

    Attributes
    ----------
    result
        Assessed or not.
    outlines
        Of the lesions of the result.
    images
        Source instances by SOP Instance UID.
    uids
        Where tracking UIDs come from.
    limits
        How much is said one by one.
    segmentation
        Whose segments the volumes by class refer to; None without one.
    further_remarks
        What else a reader should know.
    frame_numbers
        Of the slices of a multi-frame image, along the slice axis of the source; empty if there is none.
    """

    result: StudyResult
    outlines: Sequence[SliceOutline]
    images: Mapping[str, Dataset]
    uids: ResultUids
    limits: ReportLimits
    segmentation: Segmentation | None = None
    further_remarks: tuple[str, ...] = ()
    frame_numbers: Sequence[int | None] = ()
    _templates: dict[int, sr.ImageRegion] = field(default_factory=dict, init=False)

    def build(self) -> sr.MeasurementReport:
        """Return the tree: what is said in codes and numbers as groups, then the same in words."""
        triage = self.result.triage
        if triage is None:
            groups, texts = [self._not_assessed_group()], self._not_assessed_texts()
        else:
            groups = [
                self._triage_group(triage),
                *self._class_groups(triage),
                *self._slice_groups(),
                *self._segment_groups(),
                *self._lesion_groups(),
            ]
            texts = self._triage_texts(triage)
        report = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=observer(self.result.model)),
            procedure_reported=codes.PROCEDURE,
            imaging_measurements=groups,
            title=standard.DCM.ImagingMeasurementReport,
            language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
                sr.CodedConcept("en", "RFC5646", "English")
            ),
        )
        report[0].ContentSequence.append(_words(texts, self._remarks()))
        return report

    def _not_assessed_group(self) -> Group:
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking("Study triage"),
            finding_type=codes.PNEUMONIA,
            finding_sites=[sr.FindingSite(codes.LUNG)],
            qualitative_evaluations=[sr.QualitativeEvaluation(codes.PROCESSING_SUMMARY, codes.NOT_SUCCEEDED)],
        )

    def _not_assessed_texts(self) -> list[str]:
        return [f"Not assessed: {reason.code}. {reason.sentence}" for reason in self.result.reasons]

    def _triage_group(self, triage: TriageReport) -> Group:
        result = self.result
        measurements = [
            _measurement(codes.CERTAINTY_OF_IMPRESSION, 100 * max(triage.probabilities), codes.PERCENT),
            _measurement(codes.NUMBER_OF_LESIONS, len(result.lesions), codes.NO_UNITS),
        ]
        if result.involvement is not None:
            total = result.involvement.total
            measurements.append(_measurement(codes.INVOLVEMENT, total.percent, codes.PERCENT))
            for side in Side:
                region = result.involvement.sides[side]
                site = sr.FindingSite(codes.LUNG, laterality=codes.SIDE_CODES[side])
                measurements += [
                    _measurement(codes.INVOLVEMENT, region.percent, codes.PERCENT, site),
                    _measurement(codes.VOLUME, region.lung_ml, codes.MILLILITRE, site),
                ]
        summary = codes.SUCCEEDED_WITHOUT_FINDINGS if triage.negative else codes.SUCCEEDED_WITH_FINDINGS
        evaluations = [
            sr.QualitativeEvaluation(codes.IMPRESSION, codes.CLASS_CODES[triage.predicted_class]),
            sr.QualitativeEvaluation(codes.PROCESSING_SUMMARY, summary),
        ]
        if triage.priority in codes.PRIORITY_CODES:
            evaluations.append(
                sr.QualitativeEvaluation(codes.PRIORITY, codes.PRIORITY_CODES[triage.priority])
            )
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking("Study triage"),
            finding_type=codes.PNEUMONIA,
            finding_sites=[sr.FindingSite(codes.LUNG)],
            algorithm_id=_algorithm(result.model),
            measurements=measurements,
            qualitative_evaluations=evaluations,
        )

    def _triage_texts(self, triage: TriageReport) -> list[str]:
        texts = [
            f"Class: {triage.predicted_class.label}. Rule: {triage.pooling_rule}.",
            f"Priority: {triage.priority.value}, because {triage.priority_rule}.",
            f"{triage.positive_slices} of {triage.assessed_slices} assessed slices are not of class Control.",
        ]
        if self._sampled:
            texts.append(self._sampling_text())
        if triage.negative:
            texts.append("No lesion was found and the class is Control.")
        listed = {lesion.number for lesion in self._listed_lesions()}
        left_out = len(self.result.lesions) - len(listed)
        if left_out:
            texts.append(f"{left_out} further lesions are not listed one by one.")
        return texts

    @property
    def _sampled(self) -> bool:
        """Whether slices with lung were left out: volumes are then estimates, and have no method code."""
        return self.result.sampling is not None and self.result.sampling.skipped_slices > 0

    def _sampling_text(self) -> str:
        return "" if self.result.sampling is None else self.result.sampling.sentence

    def _remarks(self) -> list[str]:
        warnings = [f"Warning: {warning.code}. {warning.sentence}" for warning in self.result.warnings]
        model = self.result.model
        notices = [] if model is None else [f"Model: {model.notice}."]
        return [*warnings, *self.further_remarks, *notices, RESEARCH_NOTICE]

    def _class_groups(self, triage: TriageReport) -> list[Group]:
        return [
            sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=self._tracking(f"Class {slice_class.label}"),
                finding_type=codes.CLASS_CODES[slice_class],
                measurements=[
                    _measurement(codes.PROBABILITY, 100 * triage.probabilities[slice_class], codes.PERCENT)
                ],
            )
            for slice_class in SliceClass
        ]

    def _slice_groups(self) -> list[Group]:
        """Return groups of the slices least like Control, each on its image, in table order."""
        positive = [s for s in self.result.slices if s.sop_instance_uid in self.images and _positive(s)]
        named = sorted(positive, key=lambda s: (s.probabilities[SliceClass.CONTROL], s.source_index))
        groups: list[Group] = []
        for evidence in sorted(named[: self.limits.slices], key=lambda s: s.source_index):
            image = self.images[str(evidence.sop_instance_uid)]
            likely = max(SliceClass, key=lambda c: evidence.probabilities[c])
            groups.append(
                sr.MeasurementsAndQualitativeEvaluations(
                    tracking_identifier=self._tracking(f"Slice {evidence.source_index + 1}"),
                    finding_type=codes.CLASS_CODES[likely],
                    measurements=[
                        _measurement(codes.PROBABILITY, 100 * evidence.probabilities[likely], codes.PERCENT)
                    ],
                    source_images=[
                        sr.SourceImageForMeasurementGroup(
                            image.SOPClassUID, image.SOPInstanceUID, self._frames(evidence.source_index)
                        )
                    ],
                )
            )
        return groups

    def _frames(self, place: int) -> list[int] | None:
        number = self.frame_numbers[place] if self.frame_numbers else None
        return None if number is None else [number]

    def _segment_groups(self) -> list[Group]:
        """TID 1411: all lesions of one class together, with their segment."""
        segmentation = self.segmentation
        if segmentation is None:
            return []
        return [self._segment_group(segmentation, segment) for segment in segmentation.segments]

    def _segment_group(self, segmentation: Segmentation, segment: Segment) -> Group:
        dataset = segmentation.dataset
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(segment.tracking_uid, segment.tracking_id),
            referenced_segment=sr.ReferencedSegment(
                sop_class_uid=dataset.SOPClassUID,
                sop_instance_uid=dataset.SOPInstanceUID,
                segment_number=segment.number,
                source_series=sr.SourceSeriesForSegmentation(segmentation.source_series_uid),
            ),
            finding_type=codes.LESION_CODES[segment.lesion_class],
            finding_sites=[sr.FindingSite(codes.LUNG)],
            algorithm_id=_algorithm(self.result.model),
            # Of slices that were left out nothing is segmented: the sum of voxels is not the lesions' volume.
            measurements=None
            if self._sampled
            else [
                _measurement(codes.VOLUME, segment.volume_ml, codes.MILLILITRE, method=codes.VOLUME_METHOD)
            ],
        )

    def _listed_lesions(self) -> dict[LesionReport, list[SliceOutline]]:
        """Return the lesions that are described one by one, each with its outlines on source images."""
        seen: defaultdict[int, list[SliceOutline]] = defaultdict(list)
        for outline in self.outlines:
            seen[outline.lesion_number].append(outline)
        with_outline = [lesion for lesion in self.result.lesions if seen[lesion.number]]
        return {lesion: seen[lesion.number] for lesion in with_outline[: self.limits.lesions]}

    def _lesion_groups(self) -> list[Group]:
        groups: list[Group] = []
        for lesion, outlines in self._listed_lesions().items():
            groups += [self._volume_group(lesion, outlines), self._area_group(lesion, outlines)]
        return groups

    def _volume_group(self, lesion: LesionReport, outlines: Sequence[SliceOutline]) -> Group:
        """TID 1411: the lesion in three dimensions, outlined on every image it was seen on."""
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_regions=[self._region(o, p) for o in outlines for p in o.polygons],
            measurements=[
                _measurement(
                    codes.VOLUME,
                    lesion.volume_ml,
                    codes.MILLILITRE,
                    method=None if self._sampled else codes.VOLUME_METHOD,
                ),
                _measurement(codes.CERTAINTY_OF_FINDING, 100 * lesion.certainty, codes.PERCENT),
                _measurement(codes.ATTENUATION, lesion.mean_hu, codes.HOUNSFIELD, derivation=codes.MEAN),
            ],
            **self._lesion_identity(lesion),
        )

    def _area_group(self, lesion: LesionReport, outlines: Sequence[SliceOutline]) -> Group:
        """TID 1410: the lesion on the image where it is largest, its largest part outlined there."""
        largest = max(outlines, key=lambda outline: outline.area_mm2)
        areas = largest.polygon_areas_mm2
        index = areas.index(max(areas))
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=self._region(largest, largest.polygons[index]),
            measurements=[
                _measurement(codes.AREA, areas[index], codes.SQUARE_MILLIMETRE, method=codes.AREA_METHOD)
            ],
            **self._lesion_identity(lesion),
        )

    def _region(self, outline: SliceOutline, polygon: NDArray[np.float64]) -> sr.ImageRegion:
        template = self._templates.get(outline.place)
        if template is None:
            template = self._templates[outline.place] = _region_of(outline.header, outline.frame_number)
        return with_points(template, polygon)

    def _lesion_identity(self, lesion: LesionReport) -> _LesionIdentity:
        return {
            "tracking_identifier": sr.TrackingIdentifier(lesion.tracking_uid, lesion.tracking_id),
            "finding_type": codes.LESION_CODES[lesion.lesion_class],
            "finding_sites": [
                sr.FindingSite(
                    codes.LUNG,
                    laterality=codes.SIDE_CODES[lesion.side],
                    topographical_modifier=codes.ZONE_CODES[lesion.zone],
                )
            ],
            "algorithm_id": _algorithm(self.result.model),
        }

    def _tracking(self, identifier: str) -> sr.TrackingIdentifier:
        return sr.TrackingIdentifier(self.uids.tracking(identifier), identifier)


class _LesionIdentity(TypedDict):
    tracking_identifier: sr.TrackingIdentifier
    finding_type: Code
    finding_sites: list[sr.FindingSite]
    algorithm_id: sr.AlgorithmIdentification | None


def _positive(evidence: SliceReport) -> bool:
    return max(evidence.probabilities) > evidence.probabilities[SliceClass.CONTROL]


def _algorithm(model: ModelReport | None) -> sr.AlgorithmIdentification | None:
    """Return the algorithm identification (TID 4019) of a model."""
    if model is None:
        return None
    return sr.AlgorithmIdentification(
        name=model.name,
        version=model.version,
        parameters=[f"weights SHA-256 {model.sha256}", f"trained on: {model.trained_on}", model.notice],
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )


def observer(model: ModelReport | None) -> sr.ObserverContext:
    """Return the device that observed: the software with its weights."""
    return sr.ObserverContext(
        observer_type=standard.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid("" if model is None else model.sha256),
            name=MODEL_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
        ),
    )


def _words(conclusions: Sequence[str], remarks: Sequence[str]) -> sr.ContainerContentItem:
    """Return the Qualitative Evaluations of TID 1500 (rows 12 to 14): the answer in sentences."""
    container = sr.ContainerContentItem(
        name=codes.QUALITATIVE_EVALUATIONS, relationship_type=sr.RelationshipTypeValues.CONTAINS
    )
    named = [(codes.CONCLUSION, text) for text in conclusions] + [(codes.COMMENT, text) for text in remarks]
    container.ContentSequence = sr.ContentSequence(
        [
            sr.TextContentItem(
                name=name, value=text[:_TEXT_LIMIT], relationship_type=sr.RelationshipTypeValues.CONTAINS
            )
            for name, text in named
        ]
    )
    return container


def _region_of(header: Dataset, frame_number: int | None) -> sr.ImageRegion:
    """Return a region of an image; its points are none yet."""
    frames = None if frame_number is None else [frame_number]
    return sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=PLACEHOLDER,
        source_image=sr.SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID, frames),
    )


def _measurement(
    name: Code,
    value: float,
    unit: Code,
    site: sr.FindingSite | None = None,
    *,
    method: Code | None = None,
    derivation: Code | None = None,
) -> sr.Measurement:
    return sr.Measurement(
        name=name,
        value=round(float(value), 4),
        unit=unit,
        finding_sites=None if site is None else [site],
        method=method,
        derivation=derivation,
    )
