"""The DICOM SR of a study: Comprehensive 3D SR with a TID 1500 tree, written with highdicom."""

from __future__ import annotations

import io
from collections.abc import Sequence

import highdicom
from highdicom import sr
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DT

from covid_ct_mask_net import RESEARCH_NOTICE, UNTRAINED_NOTICE, __version__
from covid_ct_mask_net.app import codes
from covid_ct_mask_net.app.normalise import (
    OUTPUT_CHARACTER_SET,
    Sources,
    copy_patient_and_study,
    quiet_writers,
)
from covid_ct_mask_net.app.outlines import SliceOutline
from covid_ct_mask_net.app.sr_content import MANUFACTURER, MODEL_NAME, ReportContent, ReportLimits
from covid_ct_mask_net.app.uids import ResultUids, device_uid
from covid_ct_mask_net.clock import now
from covid_ct_mask_net.results import StudyResult

# Above what scanners and workstations number their series.
_SERIES_NUMBER = 9701


def write_sr(
    result: StudyResult,
    sources: Sources,
    outlines: Sequence[SliceOutline] = (),
    limits: ReportLimits | None = None,
) -> bytes:
    """Return the SR of a study as a DICOM file.

    The same study, model and version give the same UIDs, so that a second run replaces the first report.

    Parameters
    ----------
    result : StudyResult
        Assessed or not; a study that was not assessed gets a report that says so.
    sources : Sources
        Images that were read or, if none were, whatever the study holds. All become evidence; patient and
        study are theirs.
    outlines : sequence of SliceOutline
        Of the lesions.
    limits : ReportLimits, optional
        How much is said one by one.
    """
    with quiet_writers():
        uids = result_uids(result, sources)
        content = ReportContent(result, outlines, sources.by_uid, uids, limits or ReportLimits()).build()
        report = _document(result, sources, content, uids)
        buffer = io.BytesIO()
        report.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def result_uids(result: StudyResult, sources: Sources) -> ResultUids:
    """Return where the UIDs of a study's result set come from."""
    return ResultUids.of(
        str(sources.first.StudyInstanceUID),
        [(str(one.SeriesInstanceUID), str(one.SOPInstanceUID)) for one in sources.instances],
        _model_sha256(result),
    )


def _document(
    result: StudyResult, sources: Sources, content: sr.MeasurementReport, uids: ResultUids
) -> sr.Comprehensive3DSR:
    device = device_uid(_model_sha256(result))
    report = sr.Comprehensive3DSR(
        evidence=sources.instances,
        content=content,
        series_instance_uid=uids.series("sr"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=uids.instance("sr"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=False,
        is_final=False,
        is_verified=False,
        contributing_equipment=[_contributing_equipment(device)],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        manufacturer_model_name=MODEL_NAME,
        software_versions=__version__,
        device_serial_number=device,
        series_description=_series_description(result),
        coding_schemes=codes.coding_schemes(),
    )
    copy_patient_and_study(sources.first, report)
    # Whatever highdicom stamps with the clock gets the one time of the run.
    moment = now()
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    for keyword in ("ContentDate", "SeriesDate", "InstanceCreationDate"):
        setattr(report, keyword, date)
    for keyword in ("ContentTime", "SeriesTime", "InstanceCreationTime"):
        setattr(report, keyword, time)
    stamped = [item for item in report.ContributingEquipmentSequence if "ContributionDateTime" in item]
    for item in stamped:
        item.ContributionDateTime = DT(moment)
    report.TimezoneOffsetFromUTC = "+0000"
    report.SpecificCharacterSet = OUTPUT_CHARACTER_SET
    return report


def _contributing_equipment(device: str) -> highdicom.ContributingEquipment:
    equipment = highdicom.ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.PROCESSING_EQUIPMENT,
        manufacturer_model_name=MODEL_NAME,
        software_versions=__version__,
        contribution_datetime=now(),
        contribution_description=RESEARCH_NOTICE,
    )
    # A retrained model is another device (IHE AI Results, general encoding).
    equipment.DeviceUID = device
    return equipment


def _series_description(result: StudyResult) -> str:
    if result.model is not None and result.model.notice == UNTRAINED_NOTICE:
        return f"RESEARCH ONLY {UNTRAINED_NOTICE}"
    return "RESEARCH ONLY chest CT triage"


def _model_sha256(result: StudyResult) -> str:
    return "" if result.model is None else result.model.sha256
