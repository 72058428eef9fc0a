"""The command line run inside the test's process, and what must hold however it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from builders.planted import TOKEN
from covid_ct_mask_net.__main__ import main
from covid_ct_mask_net.errors import ExitCode


@dataclass(frozen=True)
class Outcome:
    """What a run of ``covid-ct-mask-net triage`` left behind."""

    code: int
    stdout: str
    stderr: str
    output: Path
    results: tuple[dict, ...]
    run: dict

    @property
    def result(self) -> dict:
        (only,) = self.results
        return only

    def reasons(self) -> list[str]:
        return [reason["code"] for result in self.results for reason in result["reasons"]]

    def warnings(self) -> list[str]:
        return [warning["code"] for result in self.results for warning in result["warnings"]]


@dataclass(frozen=True)
class Expected:
    """How a run must end: ``reason`` of the only result, codes of refused files, codes of warnings."""

    code: ExitCode
    reason: str | None = None
    refused: Mapping[str, int] = field(default_factory=dict)
    warnings: Sequence[str] = ()


ASSESSED = ExitCode.DONE
NOT_ASSESSED = ExitCode.NOTHING_ASSESSABLE
_STATUS = {
    ExitCode.DONE: "assessed",
    ExitCode.NOTHING_ASSESSABLE: "not_assessed",
    ExitCode.REFUSED_INPUT: "refused",
    ExitCode.INTERNAL: "failed",
}


class CommandLine:
    """Runs ``triage`` on ``folder/<token>`` into ``folder/out`` and checks what holds for every run."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.inputs = folder / f"{TOKEN}PATH"
        self.output = folder / "out"
        self._capture = capture
        self.inputs.mkdir()

    def __call__(self, *options: str, inputs: Sequence[Path] = (), names_input: bool = False) -> Outcome:
        before = tree(self.folder, self.output)
        named = [str(path) for path in (inputs or [self.inputs])]
        self._capture.readouterr()
        code = run_main(["triage", *named, "-o", str(self.output), *options])
        said = self._capture.readouterr()
        assert tree(self.folder, self.output) == before, "something was written outside the output folder"
        outcome = read_outcome(code, said.out, said.err, self.output)
        check_safe(outcome, names_input=names_input)
        return outcome

    def expect(self, expected: Expected, *options: str) -> Outcome:
        """Run and compare."""
        outcome = self(*options)
        result = outcome.result
        assert (outcome.code, outcome.reasons()) == (
            int(expected.code),
            [] if expected.reason is None else [expected.reason],
        ), outcome.stderr
        assert result["status"] == _STATUS[expected.code]
        refused = outcome.run["files"]["refused"]
        assert refused == dict(expected.refused)
        # A result counts those files only that say they belong to its study.
        told = {code: count for code, count in result["files"].items() if code != "accepted"}
        assert all(0 < count <= refused.get(code, 0) for code, count in told.items())
        assert told == refused or result["source"] != "none"
        for warning in expected.warnings:
            assert warning in outcome.warnings()
        return outcome


def run_main(arguments: Sequence[str]) -> int:
    """Run the command line as the operating system would: argparse leaves by SystemExit."""
    try:
        return main(arguments)
    except SystemExit as leaving:
        return int(leaving.code or 0)


def read_outcome(code: int, stdout: str, stderr: str, output: Path) -> Outcome:
    results: tuple[dict, ...] = ()
    run: dict = {}
    if (output / "worklist.json").is_file():
        listed = json.loads((output / "worklist.json").read_text())["studies"]
        results = tuple(json.loads((output / study["result"]).read_text()) for study in listed)
        run = json.loads((output / "run.json").read_text())
    return Outcome(code, stdout, stderr, output, results, run)


def check_safe(outcome: Outcome, *, names_input: bool = False) -> None:
    """No traceback, no patient data in texts or names, sentences for all reasons, a class only if assessed."""  # noqa: E501
    said = outcome.stdout + outcome.stderr
    assert "Traceback" not in said, said
    assert outcome.code in {int(code) for code in ExitCode}, outcome.code
    assert names_input or TOKEN not in said, said
    if outcome.output.is_dir():
        for path in outcome.output.rglob("*"):
            assert TOKEN not in path.name, path.name
            assert not path.name.startswith((".partial", ".replaced")), path.name
            if path.is_file() and path.suffix != ".dcm":
                assert TOKEN.encode() not in path.read_bytes(), path.name
            assert path.stat().st_mode & 0o077 == 0, f"{path.name} is open to others"
    for result in outcome.results:
        assert (result["triage"] is not None) == (result["status"] == "assessed")
        assert bool(result["reasons"]) == (result["status"] != "assessed")
        for reason in (*result["reasons"], *result["warnings"]):
            assert reason["code"].replace("_", "").isalnum()
            assert reason["sentence"].rstrip().endswith((".", "?")), reason
            assert len(reason["sentence"].split()) >= 4


def tree(folder: Path, without: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything below a folder, other than ``without``."""
    found = {}
    for parent, folders, names in os.walk(folder):
        if Path(parent) == without:
            folders.clear()
            continue
        for name in names:
            status = (Path(parent) / name).lstat()
            found[str(Path(parent) / name)] = (status.st_size, status.st_mtime_ns)
    return found


Build = Callable[[Path], object]
