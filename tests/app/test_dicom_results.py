from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from builders.dicom import make_ct_series, make_enhanced_ct
from builders.oracle import SPACING, chest_with_lesions, oracle_pipeline
from builders.result_set import made
from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.report_settings import ReportSettings, SRClass
from covid_ct_mask_net.app.run import TriageRun
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.pipeline import VolumePipeline

# dicom3tools of 2022 knows neither private schemes nor Device UID in Contributing Equipment (IHE AIR asks
# for it).
ALLOWED_WARNINGS = (
    "Unrecognized defined term = <99CTMASK>",
    "DeviceUID(0018,1002)> - Attribute is not present in standard DICOM IOD",
)


@pytest.fixture(scope="module")
def pipeline() -> VolumePipeline:
    return oracle_pipeline()


def write(pipeline: VolumePipeline, folder: Path, settings: ReportSettings | None = None) -> dict[str, Path]:
    run = TriageRun.start([folder / "in"], folder / "out")
    chain = StudyChain(pipeline, folder / "out", settings=settings or ReportSettings())
    (job,) = run.jobs()
    result = chain.run(job)
    run.finished(job)
    run.conclude()
    return {path.name: path for path in (folder / "out" / result.pseudonym).iterdir()}


@pytest.mark.parametrize("enhanced", [False, True], ids=["single-frame", "multi-frame"])
def test_the_segmentation_lies_where_the_lesions_are(
    pipeline: VolumePipeline, tmp_path: Path, enhanced: bool
) -> None:
    """Left is left and head is head: each frame is at the position of a lesion, each pixel too."""
    hu = chest_with_lesions()
    if enhanced:
        make_enhanced_ct(tmp_path / "in", hu=hu, spacing=SPACING)
    else:
        make_ct_series(tmp_path / "in", hu=hu, spacing=SPACING, shuffle=True, origin=(-80.0, -80.0, -50.0))
    files = write(pipeline, tmp_path)
    seg = pydicom.dcmread(files["seg.dcm"])
    expected = {1: hu == -500, 2: hu == -200}
    found = {number: np.zeros(hu.shape, dtype=bool) for number in expected}
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        found[number][round((float(position[2]) + 50) / SPACING[0])] = pixels
    for number, mask in expected.items():
        np.testing.assert_array_equal(found[number], mask)
    # The report refers to the segments under the same tracking UIDs.
    report = str(pydicom.dcmread(files["sr.dcm"]))
    assert seg.SOPInstanceUID in report
    assert all(segment.TrackingUID in report for segment in seg.SegmentSequence)


def test_without_a_frame_of_reference_the_report_says_why_there_is_no_segmentation(
    pipeline: VolumePipeline, tmp_path: Path
) -> None:
    make_ct_series(
        tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING, without=("FrameOfReferenceUID",)
    )
    files = write(pipeline, tmp_path)
    assert "seg.dcm" not in files
    assert b"do not declare one frame of reference" in files["sr.dcm"].read_bytes()


def test_switches_leave_out_what_they_name(pipeline: VolumePipeline, tmp_path: Path) -> None:
    make_ct_series(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING)
    settings = ReportSettings(
        segmentation=False, key_images=0, presentation_state=False, key_objects=False, html=False
    )
    assert set(write(pipeline, tmp_path, settings)) == {"result.json", "sr.dcm"}


def _uids(files: dict[str, Path]) -> dict[str, str]:
    return {n: str(pydicom.dcmread(p).SOPInstanceUID) for n, p in files.items() if n.endswith(".dcm")}


def test_other_content_has_other_uids_and_equal_content_the_same(
    pipeline: VolumePipeline, tmp_path: Path
) -> None:
    """A second run replaces the objects of the first; nothing else ever gets their UIDs."""
    make_ct_series(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING)
    pdf = ReportSettings(pdf=True)
    first = _uids(write(pipeline, tmp_path, pdf))
    assert _uids(write(pipeline, tmp_path, pdf)) == first

    def differ(changed: VolumePipeline = pipeline, **settings: object) -> set[str]:
        uids = _uids(write(changed, tmp_path, dataclasses.replace(pdf, **settings)))  # type: ignore[arg-type]
        return {name for name, uid in uids.items() if uid != first[name]}

    assert differ(sr_class=SRClass.COMPREHENSIVE) == {"sr.dcm"}
    assert differ(segmentation=False) == {"sr.dcm"}
    assert differ(key_images=1) == {"kos.dcm"}
    assert differ(presentation_state=False, html=False) == set()
    assert differ(dataclasses.replace(pipeline, configuration="other settings")) == set(first)


def test_a_study_that_is_assessed_later_does_not_take_the_uids_of_its_refusal(
    pipeline: VolumePipeline, tmp_path: Path
) -> None:
    make_ct_series(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING)
    (job,) = TriageRun.start([tmp_path / "in"], tmp_path / "late").jobs()
    job.error = RefusedInputError("TIME_LIMIT", "The study took too long.")
    late = StudyChain(pipeline, tmp_path / "late").run(job)
    refused = pydicom.dcmread(tmp_path / "late" / late.pseudonym / "sr.dcm")
    assessed = pydicom.dcmread(write(pipeline, tmp_path)["sr.dcm"])
    assert refused.SOPInstanceUID != assessed.SOPInstanceUID
    assert refused.SeriesInstanceUID != assessed.SeriesInstanceUID


def test_each_positive_slice_of_a_multi_frame_image_is_named_by_its_frame(
    pipeline: VolumePipeline, tmp_path: Path
) -> None:
    hu = chest_with_lesions()
    make_enhanced_ct(tmp_path / "in", hu=hu, spacing=SPACING)
    report = pydicom.dcmread(write(pipeline, tmp_path)["sr.dcm"])
    frames = [
        int(item.ReferencedSOPSequence[0].ReferencedFrameNumber)
        for item in items(report)
        if "ConceptNameCodeSequence" in item
        and item.ConceptNameCodeSequence[0].CodeMeaning == "Source of Measurement"
    ]
    # Frames are stored from superior to inferior, and counted from 1.
    marked = [k for k in range(len(hu)) if np.isin(hu[k], (-500.0, -200.0)).any()]
    assert sorted(frames) == sorted(len(hu) - k for k in marked)


def items(item: Dataset) -> list[Dataset]:
    return [item] + [deeper for child in item.get("ContentSequence", []) for deeper in items(child)]


def test_a_negative_study_gets_its_report_and_no_pictures() -> None:
    assert {path.name for path in made(lesions=False).folder.glob("*.dcm")} == {"sr.dcm", "pdf.dcm"}


def test_disease_without_lesions_shows_the_slices_that_it_was_told_from() -> None:
    one = made(lesions=False, suspects=True)
    names = {path.name for path in one.folder.glob("*.dcm")}
    assert names == {"sr.dcm", "pdf.dcm", "kos.dcm", "sc-1.dcm", "sc-2.dcm", "sc-3.dcm"}
    shown = [one.read(f"sc-{n}.dcm").SourceImageSequence[0].ReferencedSOPInstanceUID for n in (1, 2, 3)]
    assert len(set(shown)) == 3
    assert set(shown) <= set(one.images)
    texts = [str(item.get("TextValue", "")) for item in items(one.read("kos.dcm"))]
    assert any("no lesion was outlined" in text for text in texts)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("sr_class", list(SRClass))
def test_validators_find_no_error(pipeline: VolumePipeline, tmp_path: Path, sr_class: SRClass) -> None:
    make_ct_series(
        tmp_path / "in",
        hu=chest_with_lesions(),
        spacing=SPACING,
        charset="ISO_IR 192",
        patient_name="王^小明",
    )
    files = write(pipeline, tmp_path, ReportSettings(sr_class=sr_class, pdf=True))
    objects = {name: path for name, path in files.items() if name.endswith(".dcm")}
    assert {"sr.dcm", "seg.dcm", "sc-1.dcm", "gsps.dcm", "kos.dcm", "pdf.dcm"} <= set(objects)
    for name, path in objects.items():
        assert str(pydicom.dcmread(path).PatientName) == "王^小明"
        outcome = subprocess.run(["dciodvfy", "-new", path], capture_output=True, check=False)
        lines = (outcome.stdout + outcome.stderr).decode(errors="replace").splitlines()
        complaints = [
            line
            for line in lines
            if line.startswith("Error")
            or (line.startswith("Warning") and not any(text in line for text in ALLOWED_WARNINGS))
        ]
        assert not complaints, name
