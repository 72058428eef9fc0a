"""Validators that are not ours: dcentvfy, PixelMed's for SR, dsrdump (dciodvfy is beside each object)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from builders.dicom import make_ct_series
from builders.oracle import SPACING, chest_with_lesions, oracle_pipeline
from builders.result_set import made
from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.report_settings import ReportSettings, SRClass
from covid_ct_mask_net.app.run import TriageRun

PIXELMED = Path("/usr/share/java/pixelmed.jar")
# Java 17 refuses the validator's style sheets without these.
JAVA = [f"-Djdk.xml.xpath{limit}Limit=0" for limit in ("TotalOp", "ExprOp", "ExprGrp")]
# PixelMed's validator of 2022 takes each Measurement Group for TID 1411, also those that say TID 1501, and
# misses in them what TID 1411 asks for.
KNOWN_FALSE = ('SCOORD3D (121231,DCM,"Volume Surface")', 'SCOORD (111030,DCM,"Image Region")',
               'IMAGE (121191,DCM,"Referenced Segment")')  # fmt: skip
# Extensible templates may hold more, and these are rows of the templates that were not looked at: TID 1501
# and 4019. One code meaning is written with other capitals in PS3.16.
KNOWN_WARNINGS = ("Content Item not in template", "Source series for segmentation")


def write(folder: Path, **properties: object) -> list[Path]:
    """Write a study and its results, and return the files of both."""
    naming = {"charset": "ISO_IR 192", "patient_name": "Roe^Jane"}
    make_ct_series(
        folder / "in", hu=chest_with_lesions(), spacing=SPACING, **{**naming, **properties},  # type: ignore[arg-type]
    )  # fmt: skip
    run = TriageRun.start([folder / "in"], folder / "out")
    chain = StudyChain(oracle_pipeline(), folder / "out", settings=ReportSettings(pdf=True))
    (job,) = run.jobs()
    result = chain.run(job)
    run.readers.close()
    return [
        *sorted((folder / "out" / result.pseudonym).glob("*.dcm")),
        *sorted((folder / "in").glob("*.dcm")),
    ]


def said(*command: object) -> list[str]:
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    return (done.stdout + done.stderr).decode(errors="replace").splitlines()


@pytest.mark.skipif(shutil.which("dcentvfy") is None, reason="dicom3tools (dcentvfy) is not installed")
@pytest.mark.parametrize(
    ("name", "charset"),
    [("Roe^Jane", "ISO_IR 192"), ("Müller^Ångström", "ISO_IR 100")],
    ids=["utf8", "latin1"],
)
def test_patient_study_and_series_are_the_same_in_images_and_results(
    tmp_path: Path, name: str, charset: str
) -> None:
    files = write(tmp_path, patient_name=name, charset=charset)
    assert len(files) > 45
    lines = said("dcentvfy", *files)
    assert [line for line in lines if line.startswith("Error")] == []
    # dcentvfy finds the accession number in another entity in an SR than in an image; PS3.3 has it in one.
    assert [line for line in lines if line.startswith("Warning") and "AccessionNumber" not in line] == []
    # It does see what differs.
    other = pydicom.dcmread(files[0])
    other.PatientSex = "O"
    other.save_as(files[0])
    assert any("Error" in line and "PatientSex" in line for line in said("dcentvfy", *files))


def groups(item: Dataset) -> list[str]:
    own = [t.TemplateIdentifier for t in item.get("ContentTemplateSequence", [])]
    return own + [one for child in item.get("ContentSequence", []) for one in groups(child)]


@pytest.mark.skipif(
    shutil.which("java") is None or not PIXELMED.exists(), reason="pixelmed-apps is not installed"
)
@pytest.mark.parametrize("lesions", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_pixelmed_finds_nothing_beyond_its_known_faults(lesions: bool) -> None:
    one = made(lesions=lesions)
    report = one.folder / "sr.dcm"
    lines = said("java", *JAVA, "-cp", PIXELMED, "com.pixelmed.validate.DicomSRValidator", report)
    assert "IOD validation complete" in lines
    templates = Counter(groups(one.read("sr.dcm")))
    # Without any group of TID 1411 it looks for none.
    mistaken = templates["1501"] if templates["1411"] else 0
    errors = [line for line in lines if line.startswith("Error")]
    named = Counter(row for line in errors for row in KNOWN_FALSE if row in line and "Template 1411" in line)
    assert all(named[row] == mistaken for row in KNOWN_FALSE)
    assert len(errors) == len(KNOWN_FALSE) * mistaken
    assert bool(mistaken) is lesions
    warnings = [line for line in lines if line.startswith("Warning")]
    assert [line for line in warnings if not any(known in line for known in KNOWN_WARNINGS)] == []


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="dcmtk (dsrdump) is not installed")
def test_dsrdump_reads_every_report(tmp_path: Path) -> None:
    reports = [
        made().folder / "sr.dcm",
        made(lesions=False).folder / "sr.dcm",
        made(settings=ReportSettings(sr_class=SRClass.COMPREHENSIVE)).folder / "sr.dcm",
        # Not assessed: too few slices for a chest.
        write(tmp_path, missing_slices=range(12, 40))[0],
    ]
    texts = []
    for path in reports:
        assert path.name == "sr.dcm"
        # It prints texts in the character set of the file, which is that of the images.
        done = subprocess.run(["dsrdump", str(path)], capture_output=True, encoding="latin-1", check=False)
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    assert "Imaging Measurement Report" in texts[0]
    assert "No lesion was found" in texts[1]
    assert re.search(r"Not assessed: [A-Z_]+\.", texts[3])
