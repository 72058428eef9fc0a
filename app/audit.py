"""``audit.jsonl``: who did what to which study, one JSON object a line, in the terms of DICOM (PS3.15 A.5).

Studies are named by their pseudonyms. A site can translate the lines to the XML of PS3.15 A.5.1 and forward
them: names of events, types and fields are those of the standard.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterable, Mapping
from enum import Enum, IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from covid_ct_mask_net.clock import is_fixed, now
from covid_ct_mask_net.errors import OutputError

_SCHEMA = "covid-ct-mask-net/audit/1"


class Event(Enum):
    """Event IDs of PS3.16 CID 400: code value and meaning."""

    APPLICATION_ACTIVITY = ("110100", "Application Activity")
    INSTANCES_ACCESSED = ("110103", "DICOM Instances Accessed")
    INSTANCES_TRANSFERRED = ("110104", "DICOM Instances Transferred")
    IMPORT = ("110107", "Import")
    SECURITY_ALERT = ("110113", "Security Alert")


class EventType(Enum):
    """Event type codes of PS3.16 CID 401."""

    APPLICATION_START = ("110120", "Application Start")
    APPLICATION_STOP = ("110121", "Application Stop")


class Role(Enum):
    """Role ID codes of PS3.16 CID 402."""

    APPLICATION = ("110150", "Application")
    DESTINATION = ("110152", "Destination Role ID")
    SOURCE = ("110153", "Source Role ID")


class Action(Enum):
    """Event action codes of PS3.15 A.5.2.2."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    EXECUTE = "E"


class Outcome(IntEnum):
    """Event outcome indicators of PS3.15 A.5.2.2."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


class AuditLog:
    """An append-only file of audit events; every line is on disk before the run goes on.

    Parameters
    ----------
    path : Path
        Made private to the user if it is not there; earlier lines stay.

    Raises
    ------
    OutputError
        ``AUDIT_UNWRITABLE``: what cannot be audited is not done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._file: int | None = os.open(path, flags, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; later events are mistakes of the caller."""
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def record(
        self,
        event: Event,
        action: Action,
        outcome: Outcome = Outcome.SUCCESS,
        *,
        kind: EventType | None = None,
        studies: Iterable[str] = (),
        details: Mapping[str, str | int] | None = None,
        destination: str | None = None,
    ) -> None:
        """Append an event.

        Parameters
        ----------
        event, action, outcome, kind
            As in the standard.
        studies : iterable of str
            Pseudonyms of the studies it is about.
        details : mapping, optional
            Counts and reason codes; never patient data.
        destination : str, optional
            Archive that received, or was to receive, the studies; this process is then the source.
        """
        identification: dict[str, Any] = {
            "EventID": _code(event),
            "EventActionCode": action.value,
            "EventDateTime": now().isoformat(),
            "EventOutcomeIndicator": int(outcome),
        }
        if kind is not None:
            identification["EventTypeCode"] = _code(kind)
        line = {
            "schema": _SCHEMA,
            "EventIdentification": identification,
            "ActiveParticipant": _participants(destination),
            "AuditSourceIdentification": {"AuditSourceID": "covid-ct-mask-net"},
            "ParticipantObjectIdentification": [_study(name) for name in studies],
            # Not of the standard: what its fields have no place for.
            "details": dict(details or {}),
        }
        self._append(json.dumps(line, ensure_ascii=True) + "\n")

    def _append(self, line: str) -> None:
        if self._file is None:
            raise ValueError("The audit log is closed.")
        try:
            content = line.encode()
            if os.write(self._file, content) != len(content):
                raise OSError(28, "No space left on device")
            os.fsync(self._file)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            "AUDIT_UNWRITABLE",
            f"The audit log {str(self._path)!r} cannot be written ({error.strerror}); without it nothing is "
            "done. Make room or name another folder.",
        )


def _code(value: Event | EventType | Role) -> dict[str, str]:
    code, meaning = value.value
    return {"csd-code": code, "codeSystemName": "DCM", "originalText": meaning}


def _participants(destination: str | None) -> list[dict[str, Any]]:
    """Return this process and, of a transfer, the archive (PS3.15 A.5.3.7)."""
    if destination is None:
        return [_process(Role.APPLICATION)]
    archive = {"UserID": destination, "UserIsRequestor": False, "RoleIDCode": _code(Role.DESTINATION)}
    return [_process(Role.SOURCE), archive]


def _process(role: Role) -> dict[str, Any]:
    """Return the participant: this process, its user and its host."""
    participant: dict[str, Any] = {
        "UserID": getpass.getuser(),
        "UserIsRequestor": True,
        "RoleIDCode": _code(role),
        "NetworkAccessPointID": socket.gethostname(),
        "NetworkAccessPointTypeCode": 1,
    }
    # A number of its own for each run has no place in a run that is to be equal to the byte.
    return participant if is_fixed() else {**participant, "AlternativeUserID": str(os.getpid())}


def _study(pseudonym: str) -> dict[str, Any]:
    return {
        "ParticipantObjectTypeCode": 2,
        "ParticipantObjectTypeCodeRole": 3,
        # The full UID is not logged: whoever holds the site's key can find the study by its pseudonym.
        "ParticipantObjectIDTypeCode": {"originalText": "pseudonym of the study"},
        "ParticipantObjectID": pseudonym,
    }
