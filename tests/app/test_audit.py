"""The audit log. Requirement: REQ-PRIVACY-3."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts

from covid_ct_mask_net.app import audit
from covid_ct_mask_net.app.audit import Action, AuditLog, Event, EventType, Outcome, Role
from covid_ct_mask_net.errors import OutputError


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("value", [*Event, *EventType, *Role])
def test_codes_are_those_of_dicom(value: Event | EventType | Role) -> None:
    code, meaning = value.value
    assert any(meaning == found[code][0] for found in concepts["DCM"].values() if code in found)


def test_events_are_appended_and_private(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as log:
        log.record(Event.APPLICATION_ACTIVITY, Action.EXECUTE, kind=EventType.APPLICATION_START)
    with AuditLog(path) as log:
        log.record(
            Event.INSTANCES_ACCESSED, Action.READ, Outcome.MINOR_FAILURE, studies=["0123456789ab"],
            details={"instances": 40},
        )  # fmt: skip
    first, second = lines(path)
    assert path.stat().st_mode & 0o077 == 0
    assert first["EventIdentification"]["EventTypeCode"]["csd-code"] == "110120"
    assert second["EventIdentification"]["EventID"]["originalText"] == "DICOM Instances Accessed"
    assert second["EventIdentification"]["EventActionCode"] == "R"
    assert second["EventIdentification"]["EventOutcomeIndicator"] == 4
    assert second["ParticipantObjectIdentification"][0]["ParticipantObjectID"] == "0123456789ab"
    assert second["details"] == {"instances": 40}
    assert second["ActiveParticipant"][0]["AlternativeUserID"].isdigit()


def test_equal_runs_have_equal_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    found = []
    for number in (1, 2):
        monkeypatch.setattr(audit.os, "getpid", lambda number=number: number)
        with AuditLog(tmp_path / str(number)) as log:
            log.record(Event.APPLICATION_ACTIVITY, Action.EXECUTE)
        found.append((tmp_path / str(number)).read_bytes())
    assert found[0] == found[1]


def test_what_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="without it nothing is done") as caught:
        AuditLog(tmp_path)
    assert caught.value.code == "AUDIT_UNWRITABLE"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError):
        AuditLog(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_noticed() -> None:
    full = Path("/dev/full")
    # A device of Linux; a disk that is really full cannot be had without mounting one.
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    log = AuditLog(full)
    with pytest.raises(OutputError, match="No space left"):
        log.record(Event.APPLICATION_ACTIVITY, Action.EXECUTE)
    log.close()
    with pytest.raises(ValueError, match="closed"):
        log.record(Event.APPLICATION_ACTIVITY, Action.EXECUTE)
