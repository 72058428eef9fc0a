"""What stays on record of what was sent. Requirement: REQ-PRIVACY-3."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from builders.result_set import made
from covid_ct_mask_net.app.audit import AuditLog
from covid_ct_mask_net.app.output_folder import SEND_LOCK, OutputFolder, locked, unlock
from covid_ct_mask_net.app.sending.receipts import Delivery, Receipt, failed
from covid_ct_mask_net.app.sending.result_files import ResultFile, result_files
from covid_ct_mask_net.app.sending.sent_record import SentRecord
from covid_ct_mask_net.errors import OutputError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    shutil.copytree(made().folder, tmp_path / "out" / made().folder.name)
    return tmp_path / "out"


def stored(files: Sequence[ResultFile]) -> list[Receipt]:
    return [Receipt(file, Delivery.STORED) for file in files]


def refused(files: Sequence[ResultFile]) -> list[Receipt]:
    return failed(files, "NOT_STORED", "No.")


def events(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


def test_each_study_is_an_event_with_archive_number_and_outcome(out: Path) -> None:
    files = result_files([out])
    with SentRecord(files, "PACS@host:104") as record:
        record.send(files, stored)
        record.send(files, lambda these: [*stored(these[:-1]), *refused(these[-1:])])
        record.send(files, refused)
    found = events(out)
    assert [event["EventIdentification"]["EventOutcomeIndicator"] for event in found] == [0, 4, 8]
    first, second, _ = found
    assert first["EventIdentification"]["EventID"] == {
        "csd-code": "110104", "codeSystemName": "DCM", "originalText": "DICOM Instances Transferred",
    }  # fmt: skip
    assert first["EventIdentification"]["EventActionCode"] == "C"
    source, destination = first["ActiveParticipant"]
    assert (source["RoleIDCode"]["csd-code"], source["UserIsRequestor"]) == ("110153", True)
    assert (destination["RoleIDCode"]["csd-code"], destination["UserID"]) == ("110152", "PACS@host:104")
    (study,) = first["ParticipantObjectIdentification"]
    assert study["ParticipantObjectID"] == made().result.pseudonym
    assert second["details"] == {"instances": 7, "stored": 6, "reasons": "NOT_STORED"}
    said = (out / "audit.jsonl").read_text()
    assert made().result.study_instance_uid is not None
    for secret in ("PATIENT-1", made().result.study_instance_uid):
        assert secret not in said


def test_what_was_cut_off_is_an_event_too(out: Path) -> None:
    def ending(_: Sequence[ResultFile]) -> list[Receipt]:
        raise KeyboardInterrupt

    files = result_files([out])
    with pytest.raises(KeyboardInterrupt), SentRecord(files, "A@h:1") as record:
        record.send(files, ending)
    (event,) = events(out)
    assert event["EventIdentification"]["EventOutcomeIndicator"] == 12
    assert event["details"] == {"instances": 7, "reasons": "ENDED_EARLY"}
    assert not (out / "sent.json").exists()
    assert not (out / SEND_LOCK).exists()


def test_records_of_earlier_sends_are_kept(out: Path) -> None:
    files = result_files([out])
    for number, send in enumerate((stored, refused, stored)):
        with SentRecord(files, f"A@h:{number + 1}") as record:
            record.send(files[:3], send)
            record.send(files[3:], send)
    kept = [json.loads((out / name).read_text()) for name in ("sent-1.json", "sent-2.json", "sent.json")]
    assert [record["destination"] for record in kept] == ["A@h:1", "A@h:2", "A@h:3"]
    assert [len(record["files"]) for record in kept] == [7, 7, 7]
    assert {file["delivery"] for file in kept[1]["files"]} == {"failed"}
    # They are ours: the next run takes the folder as it is.
    OutputFolder(out).close()


def test_a_send_that_sends_nothing_leaves_the_record_of_the_last_one(out: Path) -> None:
    (out / "sent.json").write_text("{}")
    with SentRecord(result_files([out]), "A@h:1"):
        pass
    assert (out / "sent.json").read_text() == "{}"


def test_one_send_at_a_time_has_its_record_in_a_folder(out: Path) -> None:
    descriptor = locked(out / SEND_LOCK)
    assert descriptor is not None
    with pytest.raises(OutputError, match="Another send") as caught:
        SentRecord(result_files([out]), "A@h:1")
    assert caught.value.code == "OUTPUT_BUSY"
    unlock(out / SEND_LOCK, descriptor)
    SentRecord(result_files([out]), "A@h:1").__exit__(None, None, None)


def test_what_cannot_be_recorded_is_not_sent(out: Path) -> None:
    (out / "audit.jsonl").mkdir()
    with pytest.raises(OutputError) as caught:
        SentRecord(result_files([out]), "A@h:1")
    assert caught.value.code == "AUDIT_UNWRITABLE"
    assert not (out / SEND_LOCK).exists()


def test_a_result_set_is_recorded_in_its_output_folder_if_it_lies_in_one(out: Path) -> None:
    (result_set,) = (path for path in out.iterdir() if path.is_dir())
    assert {file.home for file in result_files([result_set])} == {result_set}
    AuditLog(out / "audit.jsonl").close()
    files = result_files([result_set])
    assert {file.home for file in files} == {out}
    with SentRecord(files, "A@h:1") as record:
        record.send(files, stored)
    assert (out / "sent.json").is_file()
    assert len(events(out)) == 1
