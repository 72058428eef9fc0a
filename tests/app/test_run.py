from __future__ import annotations

import gc
import json
import re
import weakref
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from builders.dicom import make_ct_series, phantom_hu
from builders.late import let_time_pass
from builders.results import assessed, declined, source
from builders.unreadable import deny_listing
from covid_ct_mask_net.app.run import TriageRun
from covid_ct_mask_net.app.settings import AppSettings
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
from covid_ct_mask_net.result_set import write_result_set
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


def run_of(output: Path, *results: StudyResult, settings: AppSettings | None = None) -> None:
    """A run that writes these results, with pages as the settings say; without any, its input is empty."""
    settings = settings or AppSettings()
    inputs = output.parent / ("in" if results else "empty")
    inputs.mkdir(exist_ok=True)
    if results:
        (inputs / "scan.nii").touch()
    with TriageRun.start([inputs], output, settings=settings) as run:
        for result in results:
            files = {"result.json": result.to_json().encode()}
            pages = {"report.html": b"page"} if settings.results.html else {}
            write_result_set(output, result.pseudonym, files | pages)
            run.finished(job_with(result))
        run.conclude()


def listed(output: Path) -> list[str]:
    worklist = json.loads((output / "worklist.json").read_text())
    assert list(Draft202012Validator(schema("worklist")).iter_errors(worklist)) == []
    names = [study["result"].partition("/")[0] for study in worklist["studies"]]
    text = (output / "worklist.html").read_text()
    assert re.findall(r"<code>([0-9a-f]{12})</code>", text) == names, "both say the same"
    for name in re.findall(r'href="([0-9a-f]{12})/report.html"', text):
        assert (output / name / "report.html").is_file()
    return names


def test_studies_of_earlier_runs_stay_on_the_worklist(tmp_path: Path) -> None:
    output = tmp_path / "out"
    earlier = [assessed("routine", 1), assessed("urgent", 2), assessed("routine", 3)]
    run_of(output, *earlier)
    assert listed(output) == [f"{n:012x}" for n in (2, 1, 3)]
    # An input without anything has a result of its own, and takes nothing off the list.
    run_of(output)
    (nothing,) = set(listed(output)) - {result.pseudonym for result in earlier}
    assert listed(output) == [*(f"{n:012x}" for n in (2, 1, 3)), nothing]
    # Done again, a study replaces its own entry; a raised one stands ahead of what came before.
    run_of(output, assessed("routine", 2), assessed("raised", 5))
    # With the priority that it has now, 2 stands where it stood: it came before the others.
    assert listed(output) == [*(f"{n:012x}" for n in (5, 2, 1, 3)), nothing]
    assert json.loads((output / "run.json").read_text())["studies"] == 2


def test_a_page_never_says_something_else_than_the_worklist(tmp_path: Path) -> None:
    output = tmp_path / "out"
    without = AppSettings.read(None, ["results.html=false"])
    run_of(output, assessed("routine", 1), settings=without)
    assert not (output / "worklist.html").exists()
    run_of(output, assessed("urgent", 2))
    assert listed(output) == [f"{2:012x}", f"{1:012x}"]
    run_of(output, assessed("urgent", 2), assessed("urgent", 3), settings=without)
    assert listed(output) == [f"{n:012x}" for n in (2, 3, 1)]


def test_a_damaged_result_of_an_earlier_run_is_told_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    run_of(output, assessed("routine", 1))
    (output / f"{1:012x}" / "result.json").write_text("{")
    run_of(output, assessed("routine", 2))
    assert listed(output) == [f"{2:012x}"]
    assert f"{1:012x} holds no result.json" in caplog.text


def test_runs_to_the_byte_have_equal_worklists_of_all_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1760000000")
    for name in ("first", "second"):
        for results in ([assessed("routine", 9), assessed("urgent", 4)], [assessed("routine", 2)]):
            run_of(tmp_path / name, *results)
        # Once more: nothing moves.
        run_of(tmp_path / name, assessed("routine", 9))
    for file in ("worklist.json", "worklist.html", "run.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    assert listed(tmp_path / "first") == [f"{n:012x}" for n in (4, 9, 2)]


def test_results_of_a_run_are_not_held(tmp_path: Path) -> None:
    run = started(tmp_path)
    result = assessed()
    held = weakref.ref(result)
    run.finished(job_with(result))
    del result
    gc.collect()
    assert held() is None, "slices of studies that are over take no memory"
    run.close()


def test_the_record_names_the_settings_and_no_path(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "rules: [{name: thin, action: prefer, score: 5, match: {SeriesDescription: {regex: ZEBRA}}}]"
    )
    settings = AppSettings.read(None, ["limits.study_seconds=77", "results.sr_class=comprehensive"], rules)
    make_ct_series(tmp_path / "in")
    with TriageRun.start([tmp_path / "in"], tmp_path / "out", settings=settings) as run:
        run.inference = {"slices": "adaptive", "engine": "exact"}
        run.finished(job_with(assessed()))
        run.conclude()
    text = (tmp_path / "out" / "run.json").read_text()
    record = json.loads(text)
    assert list(Draft202012Validator(schema("run")).iter_errors(record)) == []
    found = record["settings"]
    assert found["limits"]["study_seconds"] == 77
    assert (found["results"]["sr_class"], found["gates"]["unknown_age"]) == ("comprehensive", True)
    assert found["series_rules"] == [{"name": "thin", "action": "prefer", "points": 5.0}]
    assert found["inference"] == {"slices": "adaptive", "engine": "exact"}
    assert "ZEBRA" not in text
    assert str(tmp_path) not in text
    # A record of an earlier version is one too.
    del record["settings"]
    assert list(Draft202012Validator(schema("run")).iter_errors(record)) == []


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


def test_a_link_is_followed_where_it_is_named_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "in").mkdir()
    scan, link = tmp_path / "store" / "scan.nii", tmp_path / "in" / "scan.nii"
    scan.touch()
    link.symlink_to(scan)
    with TriageRun.start([link], tmp_path / "named") as run:
        assert run.volumes == (scan.resolve(),)
    with TriageRun.start([tmp_path / "in"], tmp_path / "walked") as run:
        assert run.volumes == ()
