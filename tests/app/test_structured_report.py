from __future__ import annotations

import shutil
import subprocess

import pytest
from pydicom.dataset import Dataset

from builders.result_set import made
from covid_ct_mask_net.app.report_settings import ReportSettings, SRClass

# What dicom3tools of 2022 does not know, or does not find in the IOD though IHE AI Results asks for it.
KNOWN_WARNINGS = ("99CTMASK", "DeviceUID", "ISO_IR 192", "Retired Person Name form", "DICOMDIR")


def test_a_preliminary_report_with_all_its_evidence() -> None:
    one, report = made(), made().read("sr.dcm")
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    named = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert set(one.images) <= named


def test_all_that_is_referred_to_is_evidence() -> None:
    report = made().read("sr.dcm")
    evidence = report.CurrentRequestedProcedureEvidenceSequence
    named = {
        str(instance.ReferencedSOPInstanceUID)
        for study in evidence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    references = {
        str(reference.ReferencedSOPInstanceUID)
        for item in items(report)
        for reference in item.get("ReferencedSOPSequence", [])
    }
    assert made().read("seg.dcm").SOPInstanceUID in references
    assert len(references) > 5
    assert references <= named


def items(item: Dataset) -> list[Dataset]:
    return [item] + [deeper for child in item.get("ContentSequence", []) for deeper in items(child)]


def test_old_archives_get_the_older_class() -> None:
    report = made(settings=ReportSettings(sr_class=SRClass.COMPREHENSIVE)).read("sr.dcm")
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("name", ["sr.dcm", "seg.dcm", "sc-1.dcm", "gsps.dcm", "kos.dcm", "pdf.dcm"])
def test_the_validator_has_no_complaint(name: str) -> None:
    done = subprocess.run(
        ["dciodvfy", "-new", str(made().folder / name)], capture_output=True, text=True, check=False
    )
    lines = (done.stderr + done.stdout).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []
    warnings = [line for line in lines if line.startswith("Warning")]
    assert [line for line in warnings if not any(known in line for known in KNOWN_WARNINGS)] == []
