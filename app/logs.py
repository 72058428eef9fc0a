"""Logs without patient data: messages name studies by pseudonym, and a filter withholds what slips through.

The first line of defence is that no message is made of tags, paths or UIDs. The second is `PatientDataFilter`
on the handler: it knows the patients' texts of this run, and the form of UIDs.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TextIO

from pydicom.dataset import Dataset

from covid_ct_mask_net.app import headers

# Whose texts are learned: the direct identifiers and the free texts that most often hold one (PS3.15 E.1).
_IDENTIFYING = (
    "PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthDate", "PatientAddress",
    "PatientTelephoneNumbers", "PatientMotherBirthName", "AccessionNumber", "StudyID", "AdmissionID",
    "InstitutionName", "InstitutionAddress", "StationName", "ReferringPhysicianName",
    "PerformingPhysicianName", "OperatorsName", "RequestingPhysician", "StudyDescription",
    "SeriesDescription", "ProtocolName", "PatientComments", "AdditionalPatientHistory", "ImageComments",
)  # fmt: skip
# Shorter texts are parts of ordinary words, and withholding them would make logs unreadable.
_LEAST_LETTERS = 4
# Any UID but those of the standard itself (transfer syntaxes, SOP classes).
_UID = re.compile(r"(?<![\w.])(?!1\.2\.840\.10008\.)[012](?:\.\d+){5,}(?![\w.])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_WITHHELD = "[withheld]"
_LIBRARIES = ("monai", "pydicom", "highdicom", "ignite", "matplotlib", "nibabel.global", "py.warnings")


class LogStyle(Enum):
    """``TEXT`` for people: warnings only. ``JSON`` for programs: one object a line, from INFO on."""

    TEXT = "text"
    JSON = "json"


class PatientDataFilter(logging.Filter):
    """Replaces texts of patients, paths of the input and UIDs in every record of a handler."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: set[str] = set()
        self._paths: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def learn(self, found: Iterable[Dataset]) -> None:
        """Take note of the identifying texts of these headers."""
        for header in found:
            for keyword in _IDENTIFYING:
                self._texts.update(
                    part
                    for part in re.split(r"[\^=\\\s\[\]',]+", _text(header, keyword))
                    if len(part) >= _LEAST_LETTERS
                )
        self._pattern = None

    def learn_paths(self, paths: Iterable[Path]) -> None:
        """Take note of inputs: folders and files are often named after patients."""
        for path in paths:
            self._paths |= {str(path), str(path.resolve())} - {".", "/"}
        self._pattern = None

    def scrub(self, text: str) -> str:
        """Return a text with everything withheld that must not be logged."""
        if self._pattern is None:
            longest_first = sorted(self._paths, key=len, reverse=True)
            parts = [re.escape(path) + r"[^\s'\":,]*" for path in longest_first]
            parts += [re.escape(text) for text in sorted(self._texts, key=len, reverse=True)]
            self._pattern = re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)
        return _UID.sub(_WITHHELD, self._pattern.sub(_WITHHELD, text))

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; none is dropped, so that the number of events stays true."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError) as error:
            message = f"a message that cannot be formed ({type(error).__name__})"
        # A line break in a value would look like a second message.
        record.msg, record.args = _CONTROL.sub(" ", self.scrub(message)), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self.scrub(record.exc_text)
        if record.stack_info:
            record.stack_info = self.scrub(record.stack_info)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "event", {}),
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line, ensure_ascii=True, default=str)


def configure_logs(
    style: LogStyle, *, debug: bool = False, stream: TextIO | None = None
) -> PatientDataFilter:
    """Send the logs of the process to a stream, through the filter.

    Parameters
    ----------
    style : LogStyle
        For people or for programs.
    debug : bool
        Everything, with tracebacks.
    stream : TextIO, optional
        Standard error if not given.

    Returns
    -------
    PatientDataFilter
        To be told of the patients of the run.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.set_name("covid-ct-mask-net")
    handler.setFormatter(
        JsonFormatter() if style is LogStyle.JSON else logging.Formatter("%(levelname)s %(message)s")
    )
    withheld = PatientDataFilter()
    handler.addFilter(withheld)
    root = logging.getLogger()
    for earlier in [h for h in root.handlers if h.get_name() == handler.get_name()]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    usual = logging.INFO if style is LogStyle.JSON else logging.WARNING
    root.setLevel(logging.DEBUG if debug else usual)
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.setLevel(logging.ERROR)
        # nibabel's has a way of its own to standard error, past the filter.
        for own in list(library.handlers):
            library.removeHandler(own)
    # Warnings of libraries quote values: they go through the filter like any other message.
    logging.captureWarnings(capture=True)
    return withheld


def _text(header: Dataset, keyword: str) -> str:
    try:
        return str(header.get(keyword) or "")
    except headers.DAMAGE:
        return ""


def event(**fields: str | int | float) -> dict[str, dict[str, str | int | float]]:
    """Return the ``extra`` of a log call: fields of the event, with the study by its pseudonym."""
    return {"event": fields}
