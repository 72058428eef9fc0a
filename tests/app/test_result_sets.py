"""What lies in an output folder, as entries of its worklist. Requirement: REQ-OUTPUT-5."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import pytest

from builders.results import assessed, declined
from covid_ct_mask_net.app.result_sets import entries_of, with_pages
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.result_set import write_result_set
from covid_ct_mask_net.results import StudyResult
from covid_ct_mask_net.worklist import WorklistEntry, worklist


def put(folder: Path, *results: StudyResult) -> list[WorklistEntry]:
    for result in results:
        write_result_set(folder, result.pseudonym, {"result.json": result.to_json().encode()})
    return [WorklistEntry.of(result) for result in results]


def at(second: int, result: StudyResult) -> StudyResult:
    return dataclasses.replace(result, created=f"2026-01-01T00:00:{second:02}+00:00")


def numbers(entries: list[WorklistEntry]) -> list[int]:
    return [int(entry.pseudonym, 16) for entry in entries]


def test_results_of_earlier_runs_are_read_and_stand_by_their_time(tmp_path: Path) -> None:
    earlier = put(tmp_path, at(9, assessed("routine", 1)), at(3, assessed("urgent", 2)))
    current = put(tmp_path, at(1, declined(NotAssessableError("NOT_CHEST", "No lung."), 3)))
    assert entries_of(tmp_path, current) == [earlier[1], earlier[0], current[0]]
    # Without the results of this run they are read like the others.
    assert numbers(entries_of(tmp_path)) == [3, 2, 1]


def test_a_study_that_is_done_again_keeps_its_place(tmp_path: Path) -> None:
    entries = put(tmp_path, at(1, assessed("routine", 7)), at(2, assessed("routine", 3)))
    (tmp_path / "worklist.json").write_text(worklist(entries))
    again = put(tmp_path, at(8, assessed("raised", 7)), at(9, assessed("routine", 1)))
    found = entries_of(tmp_path, again)
    assert numbers(found) == [7, 3, 1]
    assert found[0] == again[0]


@pytest.mark.parametrize("content", ["{", "[]", '{"studies": [{"results": 1}]}', "[" * 100_000])
def test_a_worklist_that_is_damaged_is_told_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    put(tmp_path, at(2, assessed("routine", 1)), at(1, assessed("routine", 2)))
    (tmp_path / "worklist.json").write_text(content)
    assert numbers(entries_of(tmp_path)) == [2, 1]
    assert "worklist.json of an earlier run cannot be read" in caplog.text


def _damaged(path: Path, text: str) -> str:
    changes = {
        "cut off": text[:-40],
        "not text": "\udcff",
        "nested": "[" * 100_000,
        "other product": text.replace("covid-ct-mask-net/result/1", "someone/result/1"),
        "other study": text.replace(f"{1:012x}", f"{9:012x}"),
        "slice of another kind": text.replace('"source_index"', '"index"'),
        "no object": "[1]",
    }
    return changes[path.name]


@pytest.mark.parametrize(
    "change",
    ["cut off", "not text", "nested", "other product", "other study", "slice of another kind", "no object"],
)
def test_what_is_no_result_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    put(tmp_path, assessed("urgent", 1), assessed("routine", 2))
    path = tmp_path / f"{1:012x}" / "result.json"
    path.write_text(_damaged(Path(change), path.read_text()), errors="surrogateescape")
    assert numbers(entries_of(tmp_path)) == [2]
    (warning,) = caplog.records
    assert (warning.levelno, warning.getMessage()[:12]) == (logging.WARNING, f"{1:012x}")


def test_links_and_empty_folders_are_left_out_and_other_names_are_not_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "elsewhere", assessed("urgent", 1))
    (tmp_path / f"{1:012x}").symlink_to(tmp_path / "elsewhere" / f"{1:012x}")
    (tmp_path / f"{2:012x}").mkdir()
    (tmp_path / f".partial-{3:012x}").mkdir()
    assert entries_of(tmp_path) == []
    assert sorted(record.getMessage()[:12] for record in caplog.records) == [f"{1:012x}", f"{2:012x}"]


def test_only_lines_of_the_worklist_are_kept_of_many_slices(tmp_path: Path) -> None:
    result = assessed("routine", 1)
    many = dataclasses.replace(result, slices=result.slices * 200)
    (entry,) = put(tmp_path, many)
    assert len(json.dumps(dataclasses.asdict(entry), default=str)) < 3000 < len(many.to_json())
    assert entries_of(tmp_path) == [entry]


def test_pages_are_those_that_are_there(tmp_path: Path) -> None:
    entries = put(tmp_path, assessed("routine", 1), assessed("routine", 2))
    (tmp_path / f"{2:012x}" / "report.html").touch()
    assert with_pages(tmp_path, entries) == {f"{2:012x}"}
