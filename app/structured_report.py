"""The DICOM SR of a study: Comprehensive 3D SR with a TID 1500 tree, written with highdicom."""

from __future__ import annotations

import io
from collections.abc import Sequence

import highdicom
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from covid_ct_mask_net import RESEARCH_NOTICE, UNTRAINED_NOTICE, __version__
from covid_ct_mask_net.app import codes
from covid_ct_mask_net.app.headers import quiet_pydicom
from covid_ct_mask_net.app.normalise import one_per_instance
from covid_ct_mask_net.app.outlines import SliceOutline
from covid_ct_mask_net.app.sr_content import (
    MANUFACTURER,
    MODEL_NAME,
    ReportLimits,
    device_uid,
    measurement_report,
)
from covid_ct_mask_net.clock import now
from covid_ct_mask_net.identifiers import derive_uid
from covid_ct_mask_net.results import StudyResult

# Above what scanners and workstations number their series.
_SERIES_NUMBER = 9701


def write_sr(
    result: StudyResult,
    headers: Sequence[Dataset],
    outlines: Sequence[SliceOutline] = (),
    limits: ReportLimits | None = None,
) -> bytes:
    """Return the SR of a study as a DICOM file.

    The same study, model and version give the same UIDs, so that a second run replaces the first report.

    Parameters
    ----------
    result : StudyResult
        Assessed or not; a study that was not assessed gets a report that says so.
    headers : sequence of Dataset
        Headers of the images that were read or, if none were, of whatever the study holds. All become
        evidence; patient and study are theirs.
    outlines : sequence of SliceOutline
        Of the lesions.
    limits : ReportLimits, optional
        How much is said one by one.

    Raises
    ------
    ValueError
        Without any header: there is no patient and study to write a report for.
    """
    if not headers:
        raise ValueError("A report needs the header of at least one instance of the study.")
    with quiet_pydicom():
        evidence = one_per_instance(headers)
        images = {str(header.SOPInstanceUID): header for header in evidence}
        key = _key(result, evidence)
        content = measurement_report(result, outlines, images, key, limits or ReportLimits())
        report = _document(result, evidence, content, key)
        buffer = io.BytesIO()
        report.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _document(
    result: StudyResult, evidence: Sequence[Dataset], content: sr.MeasurementReport, key: str
) -> sr.Comprehensive3DSR:
    moment = now()
    report = sr.Comprehensive3DSR(
        evidence=evidence,
        content=content,
        series_instance_uid=derive_uid(key, "SR series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=derive_uid(key, "SR instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=False,
        is_final=False,
        is_verified=False,
        contributing_equipment=[_contributing_equipment(result)],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        manufacturer_model_name=MODEL_NAME,
        software_versions=__version__,
        device_serial_number=device_uid(result.model),
        series_description=_series_description(result),
    )
    # Whatever highdicom stamps with the clock gets the one time of the run.
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    for keyword in ("ContentDate", "SeriesDate", "InstanceCreationDate"):
        setattr(report, keyword, date)
    for keyword in ("ContentTime", "SeriesTime", "InstanceCreationTime"):
        setattr(report, keyword, time)
    report.TimezoneOffsetFromUTC = "+0000"
    report.SpecificCharacterSet = "ISO_IR 192"
    _declare_private_codes(report)
    return report


def _contributing_equipment(result: StudyResult) -> highdicom.ContributingEquipment:
    equipment = highdicom.ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.PROCESSING_EQUIPMENT,
        manufacturer_model_name=MODEL_NAME,
        software_versions=__version__,
        contribution_datetime=now(),
        contribution_description=RESEARCH_NOTICE,
    )
    # A retrained model is another device (IHE AI Results, general encoding).
    equipment.DeviceUID = device_uid(result.model)
    return equipment


def _series_description(result: StudyResult) -> str:
    if result.model is not None and result.model.notice == UNTRAINED_NOTICE:
        return f"RESEARCH ONLY {UNTRAINED_NOTICE}"
    return "RESEARCH ONLY chest CT triage"


def _declare_private_codes(report: Dataset) -> None:
    """Say what the private coding scheme is (PS3.3 C.12.1.1.1)."""
    item = Dataset()
    item.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    item.CodingSchemeName = "COVID-CT-Mask-Net"
    item.CodingSchemeVersion = "1"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    report.CodingSchemeIdentificationSequence = [item]


def _key(result: StudyResult, evidence: Sequence[Dataset]) -> str:
    """Return what the report's UIDs derive from: its sources, the model and the version."""
    sources = [str(evidence[0].StudyInstanceUID), *(str(header.SOPInstanceUID) for header in evidence)]
    model = result.model.sha256 if result.model is not None else "none"
    return derive_uid(*sources, model, __version__)
