"""The result of one study: what ``result.json`` holds and what the DICOM reports are written from.

Frozen dataclasses, one per object of the JSON schema (``schemas/result.schema.json``). No patient name,
id, birth date or accession number has a place here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.labels import LesionClass, Side, SliceClass, Zone

RESULT_SCHEMA = "covid-ct-mask-net/result/1"


class Status(StrEnum):
    """How the work on a study ended. Only ``assessed`` carries a class."""

    ASSESSED = "assessed"
    NOT_ASSESSED = "not_assessed"
    REFUSED = "refused"
    FAILED = "failed"


class Priority(StrEnum):
    """Reading priority that the triage suggests; it only ever moves a study up the list."""

    URGENT = "urgent"
    RAISED = "raised"
    ROUTINE = "routine"


@dataclass(frozen=True)
class Reason:
    """Why something was decided: a code for programs and a sentence for people."""

    code: str
    sentence: str


@dataclass(frozen=True)
class SeriesReport:
    """One series of the study: chosen or set aside, and why."""

    series_instance_uid: str
    modality: str
    instances: int
    chosen: bool
    score: float | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class GeometryReport:
    """Grid of the assessed volume and the verdict on it.

    ``shape`` has the voxels along the axes of the source, in DICOM (columns, rows, slices), ``spacing_mm``
    their distances along the same axes. ``orientation`` is the axis code of the source (for example
    ``"LPS"``) before it was made canonical.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    slice_thickness_mm: float | None
    gantry_tilt_degrees: float
    missing_slices: int
    warnings: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class DetectionReport:
    """One detection on a slice.

    The box is x0, y0, x1, y1 in pixels of the source slice, counted at their edges: x along the first of the
    source's two axes that span the slice, y along the second. In DICOM these are column and row.
    """

    lesion_class: LesionClass
    score: float
    box: tuple[float, float, float, float]
    area_mm2: float


@dataclass(frozen=True)
class SliceReport:
    """Evidence of one assessed slice, in the order inferior to superior.

    ``source_index`` counts from 0 along that axis of the source volume which the axial slices follow: the
    third in DICOM, any in NIfTI. ``sop_instance_uid`` names the DICOM instance (absent for NIfTI),
    ``position_mm`` is LPS z of the slice.
    """

    source_index: int
    sop_instance_uid: str | None
    position_mm: float
    probabilities: tuple[float, float, float]
    detections: tuple[DetectionReport, ...] = ()


@dataclass(frozen=True)
class LesionReport:
    """One three-dimensional lesion, linked from the detections of neighbouring slices.

    ``certainty`` is the highest detection score among its slices. ``first_slice`` and ``last_slice`` are
    canonical slice indices (inferior to superior, both included); ``slices`` are all it was seen on.
    """

    number: int
    tracking_id: str
    tracking_uid: str
    lesion_class: LesionClass
    side: Side
    zone: Zone
    first_slice: int
    last_slice: int
    slices: tuple[int, ...]
    volume_ml: float
    mean_hu: float
    certainty: float
    centroid_mm: tuple[float, float, float]


@dataclass(frozen=True)
class RegionInvolvement:
    """Lung and lesion volumes of one region in ml, and the share of lung that lesions occupy in %."""

    lung_ml: float
    ground_glass_opacity_ml: float
    consolidation_ml: float
    lesion_ml: float
    percent: float


@dataclass(frozen=True)
class Involvement:
    """Involvement of both lungs together, of each lung, and of each third of each lung's height."""

    total: RegionInvolvement
    sides: Mapping[Side, RegionInvolvement]
    zones: Mapping[Side, Mapping[Zone, RegionInvolvement]]


@dataclass(frozen=True)
class TriageReport:
    """The answer for the volume and the rule that gave it."""

    predicted_class: SliceClass
    probabilities: tuple[float, float, float]
    priority: Priority
    pooling_rule: str
    priority_rule: str
    assessed_slices: int
    positive_slices: int
    negative: bool


@dataclass(frozen=True)
class SamplingReport:
    """Which lung slices the networks read, and which they left out.

    Attributes
    ----------
    mode
        ``all``, ``adaptive`` or ``every``.
    step_mm
        Slices closer together were left out; 0 for none.
    lung_slices, read_slices, skipped_slices
        Numbers of slices.
    largest_gap_mm
        Between neighbouring slices that were read.
    stopped_early
        Whether reading ended because the answer could not change any more.
    sentence
        The same in words.
    """

    mode: str
    step_mm: float
    lung_slices: int
    read_slices: int
    skipped_slices: int
    largest_gap_mm: float
    stopped_early: bool
    sentence: str


@dataclass(frozen=True)
class EngineReport:
    """How the networks were computed, for the result and the record of the run.

    Attributes
    ----------
    name
        ``torch``, ``exact`` or ``fast``.
    precision
        Number format of the convolutions.
    device
        ``cpu`` or the GPU.
    runtime
        Library and version that computed.
    note
        What a reader should know: why another engine than the best one was taken, or that numbers differ.
    """

    name: str
    precision: str
    device: str
    runtime: str
    note: str = ""


@dataclass(frozen=True)
class ModelReport:
    """Which model spoke: name, version, hash of its weights, what it was trained on, how it was computed."""

    name: str
    version: str
    sha256: str
    trained_on: str
    notice: str
    engine: EngineReport | None = None


@dataclass(frozen=True)
class StudyResult:
    """Everything that is said about one study; serialised as ``result.json``."""

    status: Status
    reasons: tuple[Reason, ...]
    study_instance_uid: str | None
    pseudonym: str
    source: str
    warnings: tuple[Reason, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    series: tuple[SeriesReport, ...] = ()
    geometry: GeometryReport | None = None
    slices: tuple[SliceReport, ...] = ()
    lesions: tuple[LesionReport, ...] = ()
    involvement: Involvement | None = None
    triage: TriageReport | None = None
    sampling: SamplingReport | None = None
    model: ModelReport | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    notice: str = RESEARCH_NOTICE

    def __post_init__(self) -> None:
        if (self.triage is not None) != (self.status is Status.ASSESSED):
            raise ValueError(
                f"status is {self.status.value} with{'out' if self.triage is None else ''} a triage; "
                "an assessed study has one and no other study may."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the object that the JSON schema describes."""
        return {"schema": RESULT_SCHEMA, **_plain(self)}

    def to_json(self) -> str:
        """Return ``result.json``: the same result gives the same text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Turn dataclasses and enums into what JSON knows; enums of numbers are written by name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, SliceClass | LesionClass):
        return value.label
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
