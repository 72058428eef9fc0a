"""Results of one study are written while the next is read, and nothing else changes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from covid_ct_mask_net.app.study_line import in_turn
from covid_ct_mask_net.errors import OutputError

STAGES = ("select", "load", "prepare", "infer", "triage")


class Chain:
    """Notes what happens in which order; the report of study ``hold`` waits for the next one's load."""

    def __init__(self, hold: str | None = None, broken: str | None = None) -> None:
        self.notes: list[str] = []
        self.hold, self.broken = hold, broken
        self.next_is_read = threading.Event()
        self.stages = tuple((name, name) for name in STAGES)

    def attempt(self, name: str, _: object, job: str) -> None:
        self.notes.append(f"{job} {name}")
        if name == "load" and job != self.hold:
            self.next_is_read.set()

    def report(self, job: str) -> None:
        if job == self.hold:
            assert self.next_is_read.wait(20), "the next study is not read while this one is written"
        if job == self.broken:
            raise OutputError("OUTPUT_UNWRITABLE", "The disk is full.")
        self.notes.append(f"{job} report")


def _run(chain: Any, jobs: str = "abc") -> list[str]:
    return list(in_turn(chain, jobs))  # type: ignore[arg-type]


def test_studies_come_back_in_order_each_with_its_report() -> None:
    chain = Chain()
    assert _run(chain) == ["a", "b", "c"]
    for job in "abc":
        own = [note.split()[1] for note in chain.notes if note[0] == job]
        assert own == [*STAGES, "report"]
    assert _run(Chain(), "") == []


def test_a_report_is_written_while_the_next_study_is_read_and_done_before_its_networks_run() -> None:
    chain = Chain(hold="a")
    assert _run(chain) == ["a", "b", "c"]
    assert chain.notes.index("b load") < chain.notes.index("a report") < chain.notes.index("b prepare")
    assert chain.notes.index("b report") < chain.notes.index("c prepare")


def test_a_result_that_cannot_be_written_ends_the_run() -> None:
    chain = Chain(broken="a")
    with pytest.raises(OutputError):
        _run(chain)
    assert "b prepare" not in chain.notes
    assert "c select" not in chain.notes


def test_the_files_are_those_of_studies_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from builders.dicom import make_ct_series
    from builders.oracle import SPACING, chest_with_lesions, oracle_pipeline
    from covid_ct_mask_net.app.chain import StudyChain
    from covid_ct_mask_net.app.run import TriageRun

    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    for number in (1, 2):
        make_ct_series(
            tmp_path / "in" / str(number),
            hu=chest_with_lesions(lesions=number == 1),
            spacing=SPACING,
            study_uid=f"1.2.3.{number}",
        )
    outputs = []
    for name in ("alone", "in turn"):
        output = tmp_path / name
        run = TriageRun.start([tmp_path / "in"], output)
        chain = StudyChain(oracle_pipeline(), output)
        if name == "alone":
            for job in run.jobs():
                chain.run(job)
                run.finished(job)
        else:
            for job in in_turn(chain, run.jobs()):
                run.finished(job)
        run.conclude()
        # The audit log lists events in the order in which they happen, and studies overlap in a line.
        files = [p for p in sorted(output.rglob("*")) if p.is_file() and p.name != "audit.jsonl"]
        outputs.append({p.relative_to(output): p.read_bytes() for p in files})
    alone, together = outputs
    assert alone.keys() == together.keys()
    assert len(alone) > 10
    assert [str(path) for path in alone if alone[path] != together[path]] == []
