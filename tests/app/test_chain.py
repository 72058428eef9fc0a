from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from builders.dicom import (
    concatenated,
    make_ct_series,
    make_dose_report,
    make_enhanced_ct,
    make_localizer,
)
from builders.oracle import SPACING, chest_with_lesions, oracle_pipeline
from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.run import TriageRun
from covid_ct_mask_net.app.study_job import StudyJob
from covid_ct_mask_net.errors import ExitCode
from covid_ct_mask_net.pipeline import VolumePipeline


@pytest.fixture(scope="module")
def pipeline() -> VolumePipeline:
    return oracle_pipeline()


def triage(pipeline: VolumePipeline, inputs: list[Path], output: Path) -> tuple[ExitCode, list[dict]]:
    run = TriageRun.start(inputs, output)
    chain = StudyChain(pipeline, output)
    for job in run.jobs():
        chain.run(job)
        run.finished(job)
    code = run.conclude()
    listed = json.loads((output / "worklist.json").read_text())["studies"]
    return code, [json.loads((output / study["result"]).read_text()) for study in listed]


def test_left_is_left_and_head_is_head_through_the_whole_chain(
    pipeline: VolumePipeline, tmp_path: Path
) -> None:
    make_ct_series(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING, shuffle=True)
    code, (result,) = triage(pipeline, [tmp_path / "in"], tmp_path / "out")
    assert code is ExitCode.DONE
    places = {lesion["lesion_class"]: (lesion["side"], lesion["zone"]) for lesion in result["lesions"]}
    assert places == {"Ground-glass opacity": ("right", "lower"), "Consolidation": ("left", "upper")}
    assert result["triage"]["predicted_class"] == "COVID-19"
    assert result["triage"]["positive_slices"] == 7
    ggo = next(lesion for lesion in result["lesions"] if lesion["side"] == "right")
    assert ggo["volume_ml"] == pytest.approx(4 * 8 * 8 * 5.0 * 3.5 * 3.5 / 1000, rel=1e-3)
    assert ggo["mean_hu"] == pytest.approx(-500, abs=1e-3)


def test_the_table_turned_round_gives_the_same_answer(pipeline: VolumePipeline, tmp_path: Path) -> None:
    """Feet first prone: rows and columns are turned, the anatomy is not."""
    make_ct_series(tmp_path / "supine", hu=chest_with_lesions(), spacing=SPACING, origin=(0, 0, 0))
    make_ct_series(
        tmp_path / "prone",
        hu=np.ascontiguousarray(chest_with_lesions()[::-1, ::-1, ::-1]),
        spacing=SPACING,
        orientation=(-1, 0, 0, 0, -1, 0),
        step=(0, 0, -5),
        origin=(95 * 3.5, 95 * 3.5, 39 * 5),
    )
    results = []
    for name in ("supine", "prone"):
        _, (result,) = triage(pipeline, [tmp_path / name], tmp_path / f"out-{name}")
        results.append(result)
    supine, prone = results
    assert supine["triage"] == prone["triage"]
    assert supine["involvement"] == prone["involvement"]
    for one, other in zip(supine["lesions"], prone["lesions"], strict=True):
        assert (one["side"], one["zone"], one["volume_ml"]) == (
            other["side"],
            other["zone"],
            other["volume_ml"],
        )
        np.testing.assert_allclose(one["centroid_mm"], other["centroid_mm"], atol=1e-3)


def test_outlines_lie_on_the_lesions_of_the_source_images(pipeline: VolumePipeline, tmp_path: Path) -> None:
    make_ct_series(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING)
    _, (result,) = triage(pipeline, [tmp_path / "in"], tmp_path / "out")
    report = pydicom.dcmread(tmp_path / "out" / result["pseudonym"] / "sr.dcm")
    images = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, (tmp_path / "in").glob("*.dcm"))}
    outlines = list(_coordinates(report))
    # Each lesion on each of its slices (7 in all), and on the largest once more.
    assert len(outlines) == 9
    for points, uid in outlines:
        image = images[uid]
        hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        inside = hu[round(y0) : round(y1), round(x0) : round(x1)]
        assert np.isin(inside, (-500, -200)).all()


def _coordinates(item: pydicom.Dataset) -> list[tuple[np.ndarray, str]]:
    found = []
    for child in item.get("ContentSequence", []):
        if child.ValueType == "SCOORD":
            points = np.asarray(child.GraphicData, dtype=float).reshape(-1, 2)
            found.append((points, child.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
        found += _coordinates(child)
    return found


def test_each_study_gets_its_own_patient(pipeline: VolumePipeline, tmp_path: Path) -> None:
    names = {"A": "Øresund^Æ", "B": "Brown^Bob"}
    for patient, name in names.items():
        make_ct_series(
            tmp_path / "in" / patient,
            hu=chest_with_lesions(lesions=patient == "A"),
            spacing=SPACING,
            patient_id=patient,
            patient_name=name,
            study_uid=f"1.2.3.{ord(patient)}",
            series_uid=f"1.2.3.{ord(patient)}.1",
        )
    code, results = triage(pipeline, [tmp_path / "in"], tmp_path / "out")
    assert code is ExitCode.DONE
    # The study with lesions is read first.
    assert [r["triage"]["predicted_class"] for r in results] == ["COVID-19", "Control"]
    for result, patient in zip(results, "AB", strict=True):
        report = pydicom.dcmread(tmp_path / "out" / result["pseudonym"] / "sr.dcm")
        assert report.PatientID == patient
        assert str(report.PatientName) == names[patient]
        assert report.StudyInstanceUID == result["study_instance_uid"] == f"1.2.3.{ord(patient)}"
        assert names[patient] not in json.dumps(result)


def test_a_result_does_not_depend_on_other_studies_of_the_input(
    pipeline: VolumePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1600000000")
    for patient, damaged in (("A", 20), ("B", 21)):

        def edit(k: int, dataset: Dataset, damaged: int = damaged) -> None:
            if k == damaged:
                dataset.HighBit = 11

        make_ct_series(
            tmp_path / "in" / patient, hu=chest_with_lesions(), spacing=SPACING, patient_id=patient, edit=edit
        )
    (tmp_path / "in" / "B" / "notes.txt").write_text("no image")
    _, together = triage(pipeline, [tmp_path / "in"], tmp_path / "together")
    assert [result["files"] for result in together] == [{"accepted": 39, "BIT_DEPTH": 1}] * 2
    run = json.loads((tmp_path / "together" / "run.json").read_text())
    assert run["files"]["refused"] == {"BIT_DEPTH": 2, "NOT_DICOM": 1}
    _, (alone,) = triage(pipeline, [tmp_path / "in" / "A"], tmp_path / "alone")
    name = alone["pseudonym"]
    for file in ("result.json", "report.html"):
        assert (tmp_path / "alone" / name / file).read_bytes() == (
            tmp_path / "together" / name / file
        ).read_bytes()


def test_references_to_a_concatenation_name_the_part_and_the_frame_in_it(
    pipeline: VolumePipeline, tmp_path: Path
) -> None:
    concatenated(
        make_enhanced_ct(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING), frames=(15, 10, 15)
    )
    code, (result,) = triage(pipeline, [tmp_path / "in"], tmp_path / "out")
    assert code is ExitCode.DONE
    assert result["geometry"]["shape"] == [96, 96, 40]
    # Frames run from superior to inferior: slice 39 - f is frame f, counted through all parts.
    first = {"1.2.3.8": 0, "1.2.3.7": 15, "1.2.3.6": 25}
    for one in result["slices"]:
        frame = 39 - one["source_index"]
        assert first[one["sop_instance_uid"]] == max(begin for begin in first.values() if begin <= frame)
    folder = tmp_path / "out" / result["pseudonym"]
    segmentation = pydicom.dcmread(folder / "seg.dcm")
    named = {
        (str(item.ReferencedSOPInstanceUID), int(item.ReferencedFrameNumber))
        for group in segmentation.PerFrameFunctionalGroupsSequence
        for item in group.DerivationImageSequence[0].SourceImageSequence
    }
    assert {39 - (first[uid] + frame - 1) for uid, frame in named} == {9, 10, 11, 12, 27, 28, 29}
    coordinates = [
        item.ContentSequence[0].ReferencedSOPSequence[0]
        for item in every_item(pydicom.dcmread(folder / "sr.dcm"))
        if item.get("ValueType") == "SCOORD"
    ]
    told = {(str(one.ReferencedSOPInstanceUID), int(one.ReferencedFrameNumber)) for one in coordinates}
    assert told
    assert told <= named


def every_item(dataset: Dataset) -> Iterator[Dataset]:
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from every_item(item)


def test_the_same_study_gives_the_same_bytes(
    pipeline: VolumePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    make_ct_series(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING)
    files = []
    for number in range(2):
        _, (result,) = triage(pipeline, [tmp_path / "in"], tmp_path / f"out-{number}")
        folder = tmp_path / f"out-{number}" / result["pseudonym"]
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert files[0] == files[1]
    assert {"result.json", "sr.dcm"} <= set(files[0])


def test_a_negative_study_says_so(pipeline: VolumePipeline, tmp_path: Path) -> None:
    make_ct_series(tmp_path / "in", hu=chest_with_lesions(lesions=False), spacing=SPACING)
    code, (result,) = triage(pipeline, [tmp_path / "in"], tmp_path / "out")
    assert code is ExitCode.DONE
    assert result["triage"]["negative"] is True
    assert result["lesions"] == []
    report = pydicom.dcmread(tmp_path / "out" / result["pseudonym"] / "sr.dcm")
    assert "111241" in str(report)  # all algorithms succeeded; without findings


def test_a_study_without_a_chest_series_gets_an_explicit_report(
    pipeline: VolumePipeline, tmp_path: Path
) -> None:
    make_localizer(tmp_path / "in")
    make_dose_report(tmp_path / "in")
    code, results = triage(pipeline, [tmp_path / "in"], tmp_path / "out")
    assert code is ExitCode.NOTHING_ASSESSABLE
    for result in results:
        assert result["status"] == "not_assessed"
        assert result["triage"] is None
        assert result["reasons"][0]["sentence"].endswith(".")
        report = pydicom.dcmread(tmp_path / "out" / result["pseudonym"] / "sr.dcm")
        assert "111245" in str(report)  # no algorithms succeeded


def test_a_study_that_comes_back_with_its_report_gets_the_same_report(
    pipeline: VolumePipeline, tmp_path: Path
) -> None:
    """What an archive holds of us must not become a source: each run would add a report."""
    make_ct_series(tmp_path / "in", hu=chest_with_lesions()[:5], spacing=SPACING)
    make_dose_report(tmp_path / "in")
    reports = []
    for number in range(2):
        _, (result,) = triage(pipeline, [tmp_path / "in"], tmp_path / f"out-{number}")
        assert result["reasons"][0]["code"] == "TOO_FEW_SLICES"
        reports.append(pydicom.dcmread(tmp_path / f"out-{number}" / result["pseudonym"] / "sr.dcm"))
        reports[-1].save_as(tmp_path / "in" / "archived.dcm")
    first, second = reports
    assert first.SOPInstanceUID == second.SOPInstanceUID
    for report in reports:
        evidence = [
            item.ReferencedSOPClassUID
            for series in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        ]
        assert evidence == [CTImageStorage] * 5


def test_a_study_of_nothing_but_our_results_gets_no_report(pipeline: VolumePipeline, tmp_path: Path) -> None:
    make_dose_report(tmp_path / "in")
    _, (result,) = triage(pipeline, [tmp_path / "in"], tmp_path / "out")
    shutil.copytree(tmp_path / "out" / result["pseudonym"], tmp_path / "own")
    code, (result,) = triage(pipeline, [tmp_path / "own"], tmp_path / "again")
    assert code is ExitCode.NOTHING_ASSESSABLE
    assert {path.name for path in (tmp_path / "again" / result["pseudonym"]).iterdir()} == {
        "result.json",
        "report.html",
    }


@pytest.mark.shows_patients("the traceback of a defect, at level DEBUG and ahead of the filter")
def test_a_defect_of_the_software_fails_one_study_and_says_so(
    pipeline: VolumePipeline, tmp_path: Path
) -> None:
    make_ct_series(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING)
    run = TriageRun.start([tmp_path / "in"], tmp_path / "out")
    chain = StudyChain(pipeline, tmp_path / "out")
    (job,) = run.jobs()

    def broken(_: StudyJob) -> None:
        raise ZeroDivisionError("1/0 of Müller^Ångström")

    chain.attempt("prepare", broken, job)
    chain.attempt("infer", chain.infer, job)
    result = chain.report(job)
    run.finished(job)
    assert result.status.value == "failed"
    assert result.reasons[0].code == "INTERNAL"
    assert "Müller" not in result.to_json()
    assert run.conclude() is ExitCode.INTERNAL


def test_a_lack_of_memory_is_no_defect_of_the_software(pipeline: VolumePipeline, tmp_path: Path) -> None:
    make_ct_series(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING)
    run = TriageRun.start([tmp_path / "in"], tmp_path / "out")
    chain = StudyChain(pipeline, tmp_path / "out")
    (job,) = run.jobs()

    def starved(_: StudyJob) -> None:
        raise MemoryError

    chain.attempt("prepare", starved, job)
    (reason,) = chain.report(job).reasons
    run.finished(job)
    assert reason.code == "OUT_OF_MEMORY"
    assert "prepare" in reason.sentence
    assert "more memory" in reason.sentence
    assert run.conclude() is ExitCode.INTERNAL
