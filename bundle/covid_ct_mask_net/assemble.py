"""Put what is known of a study together into its `StudyResult`."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata

from covid_ct_mask_net import __version__
from covid_ct_mask_net.clock import now
from covid_ct_mask_net.errors import CovidCTMaskNetError, NotAssessableError, RefusedInputError
from covid_ct_mask_net.results import (
    GeometryReport,
    ModelReport,
    Reason,
    SeriesReport,
    SliceReport,
    Status,
    StudyResult,
)
from covid_ct_mask_net.triage.volume_triage import TriageOutcome

_SOFTWARE = ("torch", "torchvision", "monai", "numpy")


@dataclass(frozen=True)
class Source:
    """What is known of a study besides its pixels.

    Attributes
    ----------
    pseudonym
        Stands for the study in file names and logs.
    kind
        ``"dicom"`` or ``"nifti"``.
    key
        What all derived identifiers depend on: study and series UID, or the hash of the NIfTI file.
    study_instance_uid
        UID of the study; None for NIfTI.
    files
        Number of files by outcome: ``accepted`` and reason codes of refusals.
    series
        Series of the study with the reasons for and against each.
    geometry
        Grid of the source volume, once known.
    sop_instance_uids
        Instance of each source slice along the slice axis, None where a slice was interpolated; empty for
        NIfTI.
    warnings
        What a reader of the result should know.
    packages
        Further packages whose versions belong into the result.
    """

    pseudonym: str
    kind: str
    key: str
    study_instance_uid: str | None = None
    files: Mapping[str, int] = field(default_factory=dict)
    series: tuple[SeriesReport, ...] = ()
    geometry: GeometryReport | None = None
    sop_instance_uids: tuple[str | None, ...] = ()
    warnings: tuple[Reason, ...] = ()
    packages: tuple[str, ...] = ()


def assessed(source: Source, outcome: TriageOutcome, model: ModelReport) -> StudyResult:
    """Return the result of a study that was given a class."""
    return dataclasses.replace(
        _declared(source, model, Status.NOT_ASSESSED),
        status=Status.ASSESSED,
        slices=_named(outcome.slices, source.sop_instance_uids),
        lesions=outcome.lesions,
        involvement=outcome.involvement,
        triage=outcome.triage,
        sampling=outcome.sampling,
    )


def declined(source: Source, error: CovidCTMaskNetError, model: ModelReport | None) -> StudyResult:
    """Return the result of a study without a class: why, in a code and a sentence."""
    status = Status.FAILED
    if isinstance(error, RefusedInputError):
        status = Status.REFUSED
    elif isinstance(error, NotAssessableError):
        status = Status.NOT_ASSESSED
    return dataclasses.replace(
        _declared(source, model, status), reasons=(Reason(error.code, error.sentence),)
    )


def software_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of this project, Python and the packages that results depend on."""
    versions = {"covid-ct-mask-net": __version__, "python": platform.python_version()}
    return versions | {name: metadata.version(name) for name in (*_SOFTWARE, *packages)}


def _declared(source: Source, model: ModelReport | None, status: Status) -> StudyResult:
    return StudyResult(
        status=status,
        reasons=(),
        study_instance_uid=source.study_instance_uid,
        pseudonym=source.pseudonym,
        source=source.kind,
        warnings=source.warnings,
        files=dict(source.files),
        series=source.series,
        geometry=source.geometry,
        model=model,
        software=software_versions(source.packages),
        created=now().isoformat(),
    )


def _named(slices: tuple[SliceReport, ...], uids: tuple[str | None, ...]) -> tuple[SliceReport, ...]:
    if not uids:
        return slices
    return tuple(dataclasses.replace(s, sop_instance_uid=uids[s.source_index]) for s in slices)
