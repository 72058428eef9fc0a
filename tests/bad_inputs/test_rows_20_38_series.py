"""Rows 20 to 38 of the catalogue of bad inputs: series and geometry.

Requirements: REQ-GATE-1, REQ-GATE-2, REQ-REFUSE-1, REQ-PRIVACY-1.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from builders.command_line import ASSESSED, NOT_ASSESSED, Build, CommandLine, Expected
from builders.dicom import (
    CORONAL,
    SAGITTAL,
    concatenated,
    make_dose_report,
    make_enhanced_ct,
    make_localizer,
)
from builders.oracle import SPACING, chest_with_lesions, oracle_pipeline
from builders.planted import TOKEN, at, make_study, planted, values
from covid_ct_mask_net import pipeline
from covid_ct_mask_net.errors import ExitCode

_OTHER_MODALITIES = {
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3",
}


def study(**defect: object) -> Build:
    return lambda folder: make_study(folder, **defect)


def edited(edit: object) -> Build:
    return lambda folder: make_study(folder, edit=edit)  # type: ignore[arg-type]


def other_modalities(folder: Path) -> None:
    make_study(folder)
    make_dose_report(folder / "sr", patient_id=f"{TOKEN}ID")
    for number, (modality, uid) in enumerate(_OTHER_MODALITIES.items(), start=5):
        make_study(
            folder / modality,
            hu=chest_with_lesions()[:2],
            modality=modality,
            series_number=number,
            edit=values(SOPClassUID=uid),
        )


def only_other_modalities(folder: Path) -> None:
    other_modalities(folder)
    for file in folder.glob("*.dcm"):
        file.unlink()


def head(folder: Path) -> None:
    """Tissue and bone with a little air inside, and a body part that claims a chest."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 96, 96)), indexing="ij")
    hu = np.full((40, 96, 96), -1000.0, dtype=np.float32)
    hu[(x / 0.5) ** 2 + (y / 0.6) ** 2 + (z / 1.4) ** 2 <= 1] = 900.0
    hu[(x / 0.45) ** 2 + (y / 0.55) ** 2 + (z / 1.35) ** 2 <= 1] = 35.0
    hu[(x / 0.1) ** 2 + ((y + 0.4) / 0.1) ** 2 + (z / 0.3) ** 2 <= 1] = -900.0
    make_study(folder, hu=hu)


def scouts_and_derived(folder: Path) -> None:
    make_study(folder)
    make_localizer(folder / "scout", patient_id=f"{TOKEN}ID", patient_name=f"{TOKEN}NAME^Ångström")
    for number, kind in enumerate(
        (("DERIVED", "SECONDARY", "MPR"), ("DERIVED", "PRIMARY", "MIP"), ("DERIVED", "SECONDARY", "SCREEN SAVE")),  # noqa: E501
        start=7,
    ):  # fmt: skip
        make_study(folder / str(number), image_type=kind, series_number=number)


def only_derived(folder: Path) -> None:
    make_study(folder, image_type=("DERIVED", "SECONDARY", "MPR"))


def ranked(folder: Path) -> None:
    make_study(folder / "soft", kernel="STANDARD", series_number=3, description="CHEST")
    make_study(folder / "lung", kernel="LUNG", series_number=4, description="CHEST")
    make_study(folder / "short", kernel="LUNG", series_number=5, hu=chest_with_lesions()[10:30])


def two_acquisitions(folder: Path) -> None:
    """One Series Instance UID for an acquisition in inspiration and one in expiration."""
    make_study(folder / "a", acquisition_number=1)
    make_study(folder / "b", acquisition_number=2)


def ambiguous(folder: Path) -> None:
    make_study(folder, duplicated_slices=range(40), edit=at(tuple(range(40)), _noise))


_COUNT = iter(range(10**6))


def _noise(_: int, dataset: Dataset) -> None:
    pixels = np.frombuffer(dataset.PixelData, "<i2").copy()
    dataset.PixelData = (pixels + next(_COUNT) % 7).astype("<i2").tobytes()


def copies(folder: Path) -> None:
    files = make_study(folder)
    for number in (3, 4, 5):
        shutil.copy(files[number], folder / f"copy-{number}.dcm")


def conflict(folder: Path) -> None:
    files = make_study(folder)
    dataset = pydicom.dcmread(files[3])
    _noise(1, dataset)
    dataset.PixelData = dataset.PixelData[:-2] + b"\1\1"
    pydicom.dcmwrite(folder / "copy.dcm", dataset)


def irregular(folder: Path) -> None:
    table = np.cumsum([0, *(5, 5, 10, 7) * 9, 5, 10, 7])
    make_study(folder, positions=[(-80.0, -80.0, float(z)) for z in table])


def opposite(folder: Path) -> None:
    make_study(
        folder,
        edit=at(tuple(range(20, 40)), values(ImageOrientationPatient=[-1.0, 0.0, 0.0, 0.0, 1.0, 0.0])),
    )


def enhanced(folder: Path) -> Path:
    return make_enhanced_ct(
        folder,
        hu=chest_with_lesions(),
        spacing=SPACING,
        patient_id=f"{TOKEN}ID",
        edit=lambda dataset: planted()(0, dataset),
    )


def parts(*present: int) -> Build:
    """An Enhanced CT in three instances, of which these are there."""

    def build(folder: Path) -> None:
        files = concatenated(enhanced(folder), frames=(15, 10, 15))
        for number, file in enumerate(files):
            if number not in present:
                file.unlink()

    return build


ROWS: dict[str, tuple[Build, Expected]] = {
    "20-enhanced-ct": (enhanced, Expected(ASSESSED)),
    "75-concatenation": (parts(0, 1, 2), Expected(ASSESSED)),
    "75-without-the-first": (parts(1, 2), Expected(NOT_ASSESSED, "CONCATENATION_INCOMPLETE")),
    "75-without-the-middle": (parts(0, 2), Expected(NOT_ASSESSED, "CONCATENATION_INCOMPLETE")),
    "75-without-the-last": (parts(0, 1), Expected(NOT_ASSESSED, "CONCATENATION_INCOMPLETE")),
    "21-beside-others": (other_modalities, Expected(ASSESSED)),
    "21-only-others": (only_other_modalities, Expected(NOT_ASSESSED, "NOT_CT")),
    "22-head": (head, Expected(NOT_ASSESSED, "NOT_CHEST")),
    "23-scouts-and-derived": (scouts_and_derived, Expected(ASSESSED)),
    "23-only-derived": (only_derived, Expected(NOT_ASSESSED, "NOT_ORIGINAL_AXIAL")),
    "23-only-a-scout": (
        lambda folder: make_localizer(folder, patient_id=f"{TOKEN}ID"),
        Expected(NOT_ASSESSED, "NOT_ORIGINAL_AXIAL"),
    ),
    "24-ranked": (ranked, Expected(ASSESSED)),
    "26-two-acquisitions": (two_acquisitions, Expected(ASSESSED)),
    "26-ambiguous": (ambiguous, Expected(NOT_ASSESSED, "AMBIGUOUS_SERIES")),
    "27-copies": (copies, Expected(ASSESSED)),
    "28-conflict": (conflict, Expected(NOT_ASSESSED, "CONFLICTING_INSTANCES")),
    "29-same-position": (
        study(duplicated_slices=[11, 12]),
        Expected(ASSESSED, warnings=["DUPLICATE_POSITION"]),
    ),
    "29-same-position-other-pixels": (
        study(duplicated_slices=[11, 12], edit=at(11, _noise)),
        Expected(NOT_ASSESSED, "DUPLICATE_POSITION"),
    ),
    "30-one-gap": (study(missing_slices=[20]), Expected(ASSESSED, warnings=["SLICE_GAP"])),
    "30-large-gap": (study(missing_slices=range(14, 24)), Expected(NOT_ASSESSED, "SLICE_GAP")),
    "31-irregular": (irregular, Expected(NOT_ASSESSED, "SPACING_IRREGULAR")),
    "32-one-slice": (study(hu=chest_with_lesions()[20:21]), Expected(NOT_ASSESSED, "TOO_FEW_SLICES")),
    "32-fifteen-slices": (study(hu=chest_with_lesions()[10:25]), Expected(NOT_ASSESSED, "TOO_FEW_SLICES")),
    "33-gantry-tilt": (study(tilt_degrees=15.0), Expected(ASSESSED, warnings=["GANTRY_TILT"])),
    "33-steep-gantry-tilt": (study(tilt_degrees=34.0), Expected(NOT_ASSESSED, "GANTRY_TILT")),
    "34-coronal": (study(orientation=CORONAL), Expected(NOT_ASSESSED, "NOT_AXIAL")),
    "34-sagittal": (study(orientation=SAGITTAL), Expected(NOT_ASSESSED, "NOT_AXIAL")),
    "35-position-missing": (
        edited(at(20, values(ImagePositionPatient=...))),
        Expected(NOT_ASSESSED, "GEOMETRY_ATTRIBUTE"),
    ),
    "35-position-nan": (
        edited(at(20, values(ImagePositionPatient=["nan", "nan", "nan"]))),
        Expected(NOT_ASSESSED, "GEOMETRY_ATTRIBUTE"),
    ),
    "35-orientation-missing": (
        edited(at(20, values(ImageOrientationPatient=...))),
        Expected(NOT_ASSESSED, "GEOMETRY_ATTRIBUTE"),
    ),
    "36-not-orthonormal": (
        edited(values(ImageOrientationPatient=[1.0, 0.0, 0.0, 0.2, 0.9, 0.0])),
        Expected(NOT_ASSESSED, "ORIENTATION_INCONSISTENT"),
    ),
    "36-opposite-directions": (opposite, Expected(NOT_ASSESSED, "ORIENTATION_INCONSISTENT")),
    "37-spacing-missing": (edited(values(PixelSpacing=...)), Expected(NOT_ASSESSED, "GEOMETRY_ATTRIBUTE")),
    "37-spacing-zero": (edited(values(PixelSpacing=[0, 0])), Expected(NOT_ASSESSED, "GEOMETRY_ATTRIBUTE")),
    "37-spacing-negative": (
        edited(values(PixelSpacing=[-3.5, 3.5])),
        Expected(NOT_ASSESSED, "GEOMETRY_ATTRIBUTE"),
    ),
    "37-rows-wider": (study(spacing=(5.0, 3.9, 3.2)), Expected(NOT_ASSESSED, "NON_SQUARE_PIXELS")),
    "37-columns-wider": (study(spacing=(5.0, 3.2, 3.9)), Expected(NOT_ASSESSED, "NON_SQUARE_PIXELS")),
    "37-a-little-wider": (
        study(spacing=(5.0, 3.6, 3.4)),
        Expected(ASSESSED, warnings=["OUT_OF_TRAINING_RANGE"]),
    ),
    "38-spacing-differs": (
        edited(at(20, values(PixelSpacing=[3.0, 3.0]))),
        Expected(NOT_ASSESSED, "SPACING_INCONSISTENT"),
    ),
}


@pytest.mark.parametrize(("build", "expected"), ROWS.values(), ids=ROWS)
def test_row(triage: CommandLine, build: Build, expected: Expected) -> None:
    build(triage.inputs)
    outcome = triage.expect(expected)
    if expected.code is ASSESSED:
        assert outcome.result["triage"]["predicted_class"] == "COVID-19"


def test_row_21_files_are_counted_by_modality(triage: CommandLine) -> None:
    other_modalities(triage.inputs)
    outcome = triage()
    assert outcome.run["files"]["modalities"] == {
        "CR": 2, "CT": 40, "DX": 2, "MR": 2, "PT": 2, "RTSTRUCT": 2, "SR": 1,
    }  # fmt: skip


def test_row_24_the_ranking_is_told_and_does_not_depend_on_file_order(triage: CommandLine) -> None:
    ranked(triage.inputs)
    outcome = triage()
    chosen = [series for series in outcome.result["series"] if series["chosen"]]
    assert len(outcome.result["series"]) == 3
    assert [reason["code"] for series in chosen for reason in series["reasons"]].count("CHOSEN") == 1
    kernel = next(r["sentence"] for r in chosen[0]["reasons"] if r["code"] == "KERNEL")
    assert kernel.startswith("+20.0")


def test_row_25_two_patients_get_a_result_each(triage: CommandLine) -> None:
    """One run may hold several patients: nothing is merged, and one Study UID with two patients is refused."""  # noqa: E501
    make_study(triage.inputs / "a", patient_id=f"{TOKEN}A")
    make_study(triage.inputs / "b", patient_id=f"{TOKEN}B", hu=chest_with_lesions(lesions=False))
    outcome = triage()
    assert outcome.code == ExitCode.DONE
    assert [r["triage"]["predicted_class"] for r in outcome.results] == ["COVID-19", "Control"]
    patients = {
        pydicom.dcmread(outcome.output / result["pseudonym"] / "sr.dcm").PatientID
        for result in outcome.results
    }
    assert patients == {f"{TOKEN}A", f"{TOKEN}B"}


def test_row_25_one_study_of_two_patients_is_refused(triage: CommandLine) -> None:
    for patient in "AB":
        make_study(triage.inputs / patient, patient_id=f"{TOKEN}{patient}", study_uid="1.2.3")
    outcome = triage.expect(Expected(ExitCode.REFUSED_INPUT, "MIXED_PATIENTS"))
    assert not (outcome.output / outcome.result["pseudonym"] / "sr.dcm").exists()


def test_row_26_acquisitions_are_told_apart(triage: CommandLine) -> None:
    two_acquisitions(triage.inputs)
    result = triage().result
    assert result["geometry"]["shape"] == [96, 96, 40]
    codes = [reason["code"] for series in result["series"] for reason in series["reasons"]]
    assert codes.count("SERIES_SPLIT") == 2


def test_row_32_fewer_slices_are_read_where_the_site_says_so(
    triage: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "load_pipeline", lambda _, settings: oracle_pipeline(settings=settings))
    make_study(triage.inputs, hu=chest_with_lesions()[::3], spacing=(15.0, *SPACING[1:]))
    triage.expect(Expected(NOT_ASSESSED, "TOO_FEW_SLICES"))
    outcome = triage.expect(Expected(ASSESSED), "--set", "limits.minimum_slices=14")
    assert outcome.result["geometry"]["shape"][2] == 14


def test_row_37_volumes_follow_both_spacings(triage: CommandLine) -> None:
    make_study(triage.inputs, spacing=(5.0, 3.6, 3.4))
    result = triage().result
    ground_glass = next(lesion for lesion in result["lesions"] if lesion["side"] == "right")
    assert ground_glass["volume_ml"] == pytest.approx(4 * 8 * 8 * 5 * 3.6 * 3.4 / 1000, rel=1e-3)
    assert result["geometry"]["spacing_mm"] == pytest.approx([3.4, 3.6, 5.0])


def test_row_30_interpolated_slices_have_no_say(triage: CommandLine) -> None:
    make_study(triage.inputs, missing_slices=[20])
    result = triage.expect(Expected(ASSESSED, warnings=["SLICE_GAP"])).result
    assert 20 not in [one["source_index"] for one in result["slices"]]
    assert all(one["sop_instance_uid"] for one in result["slices"])
    sampling = result["sampling"]
    assert result["triage"]["assessed_slices"] == len(result["slices"]) == sampling["read_slices"]
    assert (sampling["skipped_slices"], sampling["largest_gap_mm"]) == (1, 10.0)
    assert "1 missing from the images are interpolated" in sampling["sentence"]
