"""Put slice evidence, lungs and HU together into the triage of the volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.evidence import LesionInstance, SliceEvidence
from covid_ct_mask_net.geometry import CanonicalGrid, voxel_spacing, voxel_volume_ml
from covid_ct_mask_net.identifiers import derive_uid
from covid_ct_mask_net.labels import LesionClass, Side, SliceClass
from covid_ct_mask_net.results import (
    DetectionReport,
    Involvement,
    LesionReport,
    ModelReport,
    SamplingReport,
    SliceReport,
    TriageReport,
)
from covid_ct_mask_net.slice_sampling import SliceSampling, slice_weights
from covid_ct_mask_net.triage.involvement import measure_involvement
from covid_ct_mask_net.triage.label_map import label_map
from covid_ct_mask_net.triage.lesions import (
    LesionRules,
    LinkedLesion,
    accepted_instances,
    lesion_voxel_count,
    lesion_voxels,
    link,
)
from covid_ct_mask_net.triage.pooling import PoolingRule
from covid_ct_mask_net.triage.priority import PriorityRules, prioritise
from covid_ct_mask_net.triage.regions import SIDE_VALUES, LungRegions
from covid_ct_mask_net.triage.support import LesionSupport

_TRACKING_PREFIX = {LesionClass.GROUND_GLASS_OPACITY: "GGO", LesionClass.CONSOLIDATION: "CONSOLIDATION"}


@dataclass(frozen=True, eq=False)
class TriageOutcome:
    """What the triage found, for the result and for the reports.

    ``lesions`` and ``linked`` go in pairs; ``label_map`` is uint8 [X, Y, Z] with 1 ground-glass opacity and
    2 consolidation of these lesions. ``sampling`` is None where nothing is known of slices left out.
    """

    triage: TriageReport
    lesions: tuple[LesionReport, ...]
    linked: tuple[LinkedLesion, ...]
    involvement: Involvement
    slices: tuple[SliceReport, ...]
    label_map: NDArray[np.uint8]
    sampling: SamplingReport | None = None


@dataclass(frozen=True, eq=False)
class VolumeTriage:
    """Triage of a volume under given rules.

    Attributes
    ----------
    pooling
        From slices to the volume.
    temperature
        Divides the logits of the slices before softmax; 1 leaves them, calibration fits it.
    min_confidence
        Below this probability of its most likely class a volume is not assessed (``LOW_CONFIDENCE``); 0
        never abstains.
    lesion_rules, priority_rules
        Thresholds.
    support
        How much slices count on which no lesion is outlined.
    """

    pooling: PoolingRule
    temperature: float = 1.0
    min_confidence: float = 0.0
    lesion_rules: LesionRules = field(default_factory=LesionRules)
    priority_rules: PriorityRules = field(default_factory=PriorityRules)
    support: LesionSupport = field(default_factory=LesionSupport)

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise UsageError("SETTING", f"The temperature is {self.temperature}, but must be above 0.")
        if not 0.0 <= self.min_confidence < 1.0:
            raise UsageError("SETTING", f"min_confidence is {self.min_confidence}, but must lie in 0 to 1.")

    def __call__(
        self,
        hu: NDArray[np.float32],
        lungs: NDArray[np.uint8],
        grid: CanonicalGrid,
        evidence: Sequence[SliceEvidence],
        source_key: str,
        model: ModelReport,
        sampling: SliceSampling | None = None,
    ) -> TriageOutcome:
        """Return the triage of a volume.

        Parameters
        ----------
        hu : NDArray
            float32 HU, canonical [X, Y, Z].
        lungs : NDArray
            uint8, same shape: 1 right lung, 2 left lung.
        grid : CanonicalGrid
            Of both.
        evidence : sequence of SliceEvidence
            Of the assessed slices, in any order.
        source_key : str
            What lesion tracking UIDs derive from, with the model.
        model : ModelReport
            The model that gave the evidence.
        sampling : SliceSampling, optional
            Which slices could have been read; all of the evidence's if not given.

        Raises
        ------
        NotAssessableError
            ``NO_EVIDENCE`` without slices, ``MODEL_NON_FINITE``, ``LOW_CONFIDENCE``.
        """
        if not evidence:
            raise NotAssessableError("NO_EVIDENCE", "No slice of the volume was assessed.")
        evidence = sorted(evidence, key=lambda e: e.slice_index)
        probabilities = self._probabilities(evidence)
        read = [e.slice_index for e in evidence]
        step_mm = float(voxel_spacing(grid.affine)[2]) if sampling is None else sampling.step_mm
        pooling = self.pooling.at_step(step_mm)
        counted = self.support(probabilities, evidence)
        pooled = self._pool(pooling, counted[_reading_order(read, sampling)])
        weights = slice_weights(sampling, read)
        linked = link(
            accepted_instances(evidence, lungs, grid, self.lesion_rules), grid, self.lesion_rules, weights,
            {} if sampling is None else sampling.following(read),
        )  # fmt: skip
        kept = [instance for lesion in linked for instance in lesion.instances]
        labels = label_map(kept, lungs.shape)
        regions = LungRegions(lungs)
        involvement = measure_involvement(regions, labels, grid, weights)
        predicted = SliceClass(int(np.argmax(pooled)))
        priority, rule = prioritise(pooled, involvement.total.percent, self.priority_rules)
        triage = TriageReport(
            predicted_class=predicted,
            probabilities=pooled,
            priority=priority,
            pooling_rule=self.describe(pooling),
            priority_rule=rule,
            assessed_slices=len(evidence),
            positive_slices=int((probabilities.argmax(axis=1) != SliceClass.CONTROL).sum()),
            negative=predicted is SliceClass.CONTROL and not linked,
        )
        return TriageOutcome(
            triage=triage,
            lesions=_describe(linked, hu, regions, grid, source_key, model, weights),
            linked=linked,
            involvement=involvement,
            slices=_slice_reports(evidence, probabilities, kept, grid),
            label_map=labels,
            sampling=None if sampling is None else sampling.report(read),
        )

    def settled(self, evidence: Sequence[SliceEvidence], sampling: SliceSampling) -> bool:
        """Tell whether slices read after these can change neither class, probabilities nor priority.

        That is so where the pooling rule is settled and its answer alone makes the study urgent, whatever the
        lesions of other slices are. Lesions and involvement still come from the slices read.

        Parameters
        ----------
        evidence : sequence of SliceEvidence
            In reading order.
        sampling : SliceSampling
            Which slices may be read.
        """
        pooling = self.pooling.at_step(sampling.step_mm)
        counted = self.support(self._probabilities(evidence), evidence)
        if not (np.isfinite(counted).all() and pooling.settled(counted)):
            return False
        disease = 1.0 - float(pooling(counted)[SliceClass.CONTROL])
        return disease >= self.priority_rules.urgent_probability

    def missing(self, evidence: Sequence[SliceEvidence], sampling: SliceSampling) -> int | None:
        """Return how many more slices must be read at least until `settled`; None if that is not known.

        Parameters are those of `settled`.
        """
        counted = self.support(self._probabilities(evidence), evidence)
        if not np.isfinite(counted).all():
            return None
        return self.pooling.at_step(sampling.step_mm).missing(counted)

    def describe(self, pooling: PoolingRule | None = None) -> str:
        """Return in words how slices become the answer; ``pooling`` is the rule at the step of a volume."""
        return "; ".join(filter(None, ((pooling or self.pooling).describe(), self.support.describe())))

    def _probabilities(self, evidence: Sequence[SliceEvidence]) -> NDArray[np.float64]:
        return _softmax(np.array([one.logits for one in evidence]) / self.temperature)

    def _pool(self, pooling: PoolingRule, probabilities: NDArray[np.float64]) -> tuple[float, float, float]:
        if not np.isfinite(probabilities).all():
            raise NotAssessableError("MODEL_NON_FINITE", "The network gave no number for some slice.")
        control, pneumonia, covid = (float(p) for p in pooling(probabilities))
        confidence = max(control, pneumonia, covid)
        if confidence < self.min_confidence:
            raise NotAssessableError(
                "LOW_CONFIDENCE",
                f"The most likely class has a probability of {confidence:.3f}; at least "
                f"{self.min_confidence:g} is required for an answer.",
            )
        return control, pneumonia, covid


def _reading_order(read: Sequence[int], sampling: SliceSampling | None) -> list[int]:
    """Return the places of rising slice indices in the order in which they were read."""
    if sampling is None:
        return list(range(len(read)))
    place = {index: place for place, index in enumerate(read)}
    return [place[index] for index in sampling.order if index in place]


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _describe(
    linked: tuple[LinkedLesion, ...],
    hu: NDArray[np.float32],
    regions: LungRegions,
    grid: CanonicalGrid,
    source_key: str,
    model: ModelReport,
    weights: Mapping[int, int],
) -> tuple[LesionReport, ...]:
    voxel_ml = voxel_volume_ml(grid.affine)
    reports = []
    for number, lesion in enumerate(linked, start=1):
        centroid, mean_hu, side = _measured(lesion, hu, regions)
        slices = lesion.slices
        x, y, z = (round(float(c), 2) for c in grid.to_patient([centroid])[0])
        reports.append(
            LesionReport(
                number=number,
                tracking_id=f"{_TRACKING_PREFIX[lesion.lesion_class]}-{number}",
                tracking_uid=derive_uid(source_key, model.sha256, model.version, "lesion", str(number)),
                lesion_class=lesion.lesion_class,
                side=side,
                zone=regions.zone_of(side, float(centroid[2])),
                first_slice=slices[0],
                last_slice=slices[-1],
                slices=slices,
                volume_ml=round(lesion_voxel_count(lesion, weights) * voxel_ml, 4),
                mean_hu=round(mean_hu, 2),
                certainty=lesion.certainty,
                centroid_mm=(x, y, z),
            )
        )
    return tuple(reports)


def _measured(
    lesion: LinkedLesion, hu: NDArray, regions: LungRegions
) -> tuple[NDArray[np.float64], float, Side]:
    """Return centre (canonical voxels), mean HU and side of a lesion, gone through slice by slice."""
    count, places, total = 0, np.zeros(3), 0.0
    sides = np.zeros(3, dtype=np.int64)
    for voxels in lesion_voxels(lesion):
        count += len(voxels)
        places += voxels.sum(axis=0)
        total += float(hu[tuple(voxels.T)].sum(dtype=np.float64))
        sides += np.bincount(regions.side_values(voxels), minlength=3)
    right = sides[SIDE_VALUES[Side.RIGHT]] >= sides[SIDE_VALUES[Side.LEFT]]
    return places / count, total / count, Side.RIGHT if right else Side.LEFT


def _slice_reports(
    evidence: Sequence[SliceEvidence],
    probabilities: NDArray[np.float64],
    kept: Sequence[LesionInstance],
    grid: CanonicalGrid,
) -> tuple[SliceReport, ...]:
    pixel_mm2 = float(np.prod(voxel_spacing(grid.affine)[:2]))
    by_slice: dict[int, list[LesionInstance]] = {}
    for instance in sorted(kept, key=lambda i: (-i.score, int(i.lesion_class), i.box)):
        by_slice.setdefault(instance.slice_index, []).append(instance)
    reports = []
    for slice_evidence, (control, pneumonia, covid) in zip(evidence, probabilities.tolist(), strict=True):
        index = slice_evidence.slice_index
        reports.append(
            SliceReport(
                source_index=grid.source_slice(index),
                sop_instance_uid=None,
                position_mm=round(grid.slice_position(index), 3),
                probabilities=(control, pneumonia, covid),
                detections=tuple(
                    DetectionReport(
                        lesion_class=instance.lesion_class,
                        score=instance.score,
                        box=_source_box(instance, grid),
                        area_mm2=round(float(instance.mask.sum()) * pixel_mm2, 2),
                    )
                    for instance in by_slice.get(index, ())
                ),
            )
        )
    return tuple(reports)


def _source_box(instance: LesionInstance, grid: CanonicalGrid) -> tuple[float, float, float, float]:
    """Return the box in pixels of the source slice, along its plane axes in their order."""
    x0, y0, x1, y1 = instance.box
    # Boxes are in pixel edges, voxel indices in pixel centres: half a pixel apart.
    corners = [(x - 0.5, y - 0.5, instance.slice_index) for x in (x0, x1) for y in (y0, y1)]
    plane = grid.to_source(corners)[:, list(grid.plane_axes)] + 0.5
    (left, top), (right, bottom) = plane.min(axis=0), plane.max(axis=0)
    return round(float(left), 3), round(float(top), 3), round(float(right), 3), round(float(bottom), 3)
