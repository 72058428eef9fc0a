from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from builders.dicom import make_ct_series, phantom_hu
from builders.late import let_time_pass
from builders.results import assessed, declined, source
from builders.unreadable import deny_listing
from covid_ct_mask_net.app.run import TriageRun
from covid_ct_mask_net.app.study_job import StudyJob
from covid_ct_mask_net.errors import (
    CovidCTMaskNetError,
    ExitCode,
    NotAssessableError,
    OutputError,
    RefusedInputError,
    UsageError,
)
from covid_ct_mask_net.json_schemas import schema
from covid_ct_mask_net.results import StudyResult


def started(tmp_path: Path) -> TriageRun:
    make_ct_series(tmp_path / "in")
    return TriageRun.start([tmp_path / "in"], tmp_path / "out")


def job_with(result: StudyResult, error: CovidCTMaskNetError | None = None) -> StudyJob:
    return StudyJob(source(), result=result, error=error, seconds={"load": 0.12345})


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([], ExitCode.DONE),
        ([NotAssessableError("A", "B.")], ExitCode.NOTHING_ASSESSABLE),
        ([NotAssessableError("A", "B."), RefusedInputError("C", "D.")], ExitCode.REFUSED_INPUT),
        ([OutputError("E", "F."), NotAssessableError("A", "B.")], ExitCode.INTERNAL),
    ],
)
def test_the_worst_study_gives_the_exit_code(
    tmp_path: Path, errors: list[CovidCTMaskNetError], expected: ExitCode
) -> None:
    run = started(tmp_path)
    run.finished(job_with(assessed()))
    for number, error in enumerate(errors, start=2):
        run.finished(job_with(declined(error, number), error))
    assert run.conclude() is expected


def test_files_about_the_run(tmp_path: Path) -> None:
    run = started(tmp_path)
    run.finished(job_with(assessed("routine", 1)))
    run.finished(job_with(assessed("urgent", 2)))
    run.conclude()
    worklist = json.loads((tmp_path / "out" / "worklist.json").read_text())
    assert [study["priority"] for study in worklist["studies"]] == ["urgent", "routine"]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert list(Draft202012Validator(schema("run")).iter_errors(record)) == []
    assert record["seconds"]["studies"]["000000000001"]["load"] == 0.123
    assert record["files"]["accepted"] == 20


def test_a_run_to_the_byte_holds_no_timings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1760000000")
    make_ct_series(tmp_path / "in")
    records = []
    for name in ("first", "second"):
        run = TriageRun.start([tmp_path / "in"], tmp_path / name)
        run.finished(job_with(assessed()))
        run.conclude()
        records.append((tmp_path / name / "run.json").read_bytes())
    assert records[0] == records[1]
    record = json.loads(records[0])
    assert list(Draft202012Validator(schema("run")).iter_errors(record)) == []
    assert {"seconds", "peak_memory_mb"}.isdisjoint(record)


def test_an_input_without_a_study_gets_a_result_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    run = TriageRun.start([tmp_path / "in"], tmp_path / "out")
    assert len(run) == 0
    assert run.conclude() is ExitCode.NOTHING_ASSESSABLE
    (path,) = (tmp_path / "out").glob("*/result.json")
    assert json.loads(path.read_text())["reasons"][0]["code"] == "NO_FILES"


def test_a_folder_of_volumes_that_cannot_be_listed_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("open", "closed"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "scan.nii").touch()
    deny_listing(monkeypatch, tmp_path / "in" / "closed")
    with TriageRun.start([tmp_path / "in"], tmp_path / "out") as run:
        assert run.volumes == ((tmp_path / "in" / "open" / "scan.nii").resolve(),)
        assert run.found.refused == {"UNREADABLE": 1}


@pytest.mark.parametrize(("files", "studies"), [(25, 2), (0, 0)])
def test_an_input_that_was_not_looked_at_whole_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    files: int,
    studies: int,
) -> None:
    for number in range(2):
        make_ct_series(tmp_path / "in" / str(number), study_uid=f"1.2.{number + 1}")
    (tmp_path / "in" / "scan.nii").touch()
    let_time_pass(monkeypatch, files)
    run = TriageRun.start([tmp_path / "in"], tmp_path / "out")
    # A NIfTI file is no file that was missed: it is read on its own.
    assert run.found.refused == {"TIME_LIMIT": 40 - files}
    jobs = list(run.jobs())
    assert len(jobs) == studies + 1
    for job in jobs:
        assert [warning.code for warning in job.source.warnings] == ["INTAKE_INCOMPLETE"]
        run.finished(job_with(assessed()))
    assert run.conclude() is ExitCode.REFUSED_INPUT
    assert [r.getMessage()[:18] for r in caplog.records if r.levelname == "WARNING"] == ["INTAKE_INCOMPLETE:"]


def test_results_never_go_among_the_images(tmp_path: Path) -> None:
    make_ct_series(tmp_path / "in")
    for output in (tmp_path / "in", tmp_path / "in" / "results"):
        with pytest.raises(UsageError) as caught:
            TriageRun.start([tmp_path / "in"], output)
        assert caught.value.code == "OUTPUT_IN_INPUT"


def test_a_job_without_result_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="report it first"):
        started(tmp_path).finished(StudyJob(source()))


def test_a_study_that_was_taken_is_no_longer_held(tmp_path: Path) -> None:
    for number in range(2):
        make_ct_series(
            tmp_path / "in" / str(number), hu=phantom_hu((3, 80, 64)), study_uid=f"1.2.{number + 1}"
        )
    with TriageRun.start([tmp_path / "in"], tmp_path / "out") as run:
        jobs = run.jobs()
        first = weakref.ref(next(jobs).study)
        assert len(run) == 2
        next(jobs)
        gc.collect()
        assert first() is None, "headers of studies that are over take no memory"
        assert len(run) == 2
        assert list(jobs) == []
