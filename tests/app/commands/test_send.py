from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from builders.archives import scripted_scp, scripted_stow
from builders.result_set import made
from covid_ct_mask_net.__main__ import main
from covid_ct_mask_net.app.sending.receipts import Receipt
from covid_ct_mask_net.app.sending.result_files import ResultFile
from covid_ct_mask_net.app.sending.store import StoreUser


@pytest.fixture
def out(tmp_path: Path) -> Path:
    shutil.copytree(made().folder, tmp_path / "out" / made().folder.name)
    return tmp_path / "out"


def test_results_to_an_archive(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_scp() as scp:
        assert main(["send", str(out), "--to", f"ARCHIVE@127.0.0.1:{scp.port}"]) == 0
    said = capsys.readouterr().out
    assert f"7 of 7 files are at ARCHIVE@127.0.0.1:{scp.port}." in said
    assert "Research use only" in said
    assert len(scp.stored) == 7
    sent = json.loads((out / "sent.json").read_text())
    assert {file["delivery"] for file in sent["files"]} == {"stored"}
    assert (out / "sent.json").stat().st_mode & 0o077 == 0
    (event,) = map(json.loads, (out / "audit.jsonl").read_text().splitlines())
    assert event["EventIdentification"]["EventID"]["csd-code"] == "110104"
    assert event["ActiveParticipant"][1]["UserID"] == f"ARCHIVE@127.0.0.1:{scp.port}"


@pytest.mark.parametrize("end", [KeyboardInterrupt(), ZeroDivisionError()])
def test_what_was_sent_before_the_end_of_a_run_is_on_record(
    out: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    real, calls = StoreUser.send, iter((False, True))

    def ending(user: StoreUser, files: Sequence[ResultFile]) -> list[Receipt]:
        if next(calls):
            raise end
        return real(user, files)

    def halves(files: Sequence[ResultFile]) -> dict[str, list[ResultFile]]:
        return {"1": list(files[:3]), "2": list(files[3:])}

    monkeypatch.setattr(StoreUser, "send", ending)
    monkeypatch.setattr("covid_ct_mask_net.app.sending.result_files.by_study", halves)
    with scripted_scp() as scp:
        assert main(["send", str(out), "--to", f"ARCHIVE@127.0.0.1:{scp.port}"]) in (70, 130)
    sent = json.loads((out / "sent.json").read_text())
    assert [file["delivery"] for file in sent["files"]] == ["stored"] * 3


def test_a_failure_is_said_on_standard_error_and_by_the_exit_code(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted_scp(statuses=[0xC000]) as scp:
        assert main(["send", str(out), "--to", f"ARCHIVE@127.0.0.1:{scp.port}", "--quiet"]) == 6
    said = capsys.readouterr()
    assert "seg.dcm: NOT_STORED:" in said.err
    assert said.out == ""


def test_commitment_on_request(out: Path) -> None:
    with scripted_scp(same_association=True) as scp:
        command = [
            "send",
            str(out),
            "--to",
            f"ARCHIVE@127.0.0.1:{scp.port}",
            "--commit",
            "--commit-wait",
            "10",
        ]
        assert main(command) == 0
    sent = json.loads((out / "sent.json").read_text())
    assert {file["delivery"] for file in sent["files"]} == {"committed"}


def test_a_web_archive_that_refuses(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_stow([(403, b"")]) as stow:
        assert main(["send", str(out), "--stow", stow.url]) == 6
    assert "HTTP status 403" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "A@h:1", "--credentials", "file"], "--credentials goes with --stow"),
        (["--to", "A@h:1", "--listen", "h:2"], "--listen goes with --commit"),
        (["--to", "A@h:1", "--tls-ca", "file"], "--tls is not"),
        (["--to", "A@h:1", "--timeout", "0"], "above 0 seconds"),
        (["--to", "A@h:1", "--retries", "-1"], "Retries are 0 to 100"),
        (["--stow", "http://h/", "--commit"], "go with --to"),
    ],
)
def test_switches_without_effect_are_refused(
    out: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["send", str(out), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", str(tmp_path), "--to", "A@127.0.0.1:9"]) == 2
    assert "NO_RESULTS" in capsys.readouterr().err
