"""Logs name studies by pseudonym; what slips through is withheld. Requirement: REQ-PRIVACY-2."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from covid_ct_mask_net.app.logs import LogStyle, PatientDataFilter, configure_logs, event

log = logging.getLogger("covid_ct_mask_net.test")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def patient() -> Dataset:
    header = Dataset()
    header.PatientName = "Sauerbruch^Anna Maria=王^小東"
    header.PatientID = "P-4711/a"
    header.PatientBirthDate = "19600102"
    header.InstitutionName = "St. Example"
    header.StudyID = "1"
    return header


def configured(style: LogStyle, *, debug: bool = False) -> tuple[io.StringIO, PatientDataFilter]:
    stream = io.StringIO()
    withheld = configure_logs(style, debug=debug, stream=stream)
    withheld.learn([patient()])
    withheld.learn_paths([Path("/data/Sauerbruch Anna")])
    return stream, withheld


def test_patients_paths_and_uids_are_withheld() -> None:
    stream, _ = configured(LogStyle.TEXT)
    log.warning("name %s id %s born %s", "SAUERBRUCH", "P-4711/a", "19600102")
    log.warning("file %s", "/data/Sauerbruch Anna/ct/1.dcm")
    log.warning("study %s in %s", "1.3.6.1.4.1.14519.5.2.1.1", "1.2.840.10008.1.2.4.90")
    log.warning("line\nERROR forged \x1b[31m")
    said = stream.getvalue()
    assert said.splitlines() == [
        "WARNING name [withheld] id [withheld] born [withheld]",
        "WARNING file [withheld]",
        "WARNING study [withheld] in 1.2.840.10008.1.2.4.90",
        "WARNING line ERROR forged  [31m",
    ]


def test_short_texts_and_versions_stay() -> None:
    stream, _ = configured(LogStyle.TEXT)
    log.warning("1 study in 1.5 s with pydicom 3.0.2")
    assert stream.getvalue() == "WARNING 1 study in 1.5 s with pydicom 3.0.2\n"


def test_tracebacks_are_searched_too() -> None:
    stream, _ = configured(LogStyle.JSON)
    try:
        raise ValueError("bad name Sauerbruch^Anna")
    except ValueError:
        log.exception("failed")
    line = json.loads(stream.getvalue())
    assert "Traceback" in line["traceback"]
    assert "Sauerbruch" not in stream.getvalue()


def test_lines_are_json_with_the_fields_of_the_event() -> None:
    stream, _ = configured(LogStyle.JSON)
    log.info("study done", extra=event(study="0123456789ab", status="assessed", seconds=1.5))
    log.debug("not shown")
    (line,) = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert line["message"] == "study done"
    assert (line["study"], line["seconds"]) == ("0123456789ab", 1.5)
    assert line["time"].endswith("+00:00")


def test_text_is_for_people_and_says_only_what_is_wrong() -> None:
    stream, _ = configured(LogStyle.TEXT)
    log.info("study done")
    assert stream.getvalue() == ""


def test_libraries_speak_through_the_filter() -> None:
    stream, _ = configured(LogStyle.TEXT, debug=True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        logging.getLogger("py.warnings").setLevel(logging.WARNING)
        warnings.warn("Invalid value for VR UI: 'Sauerbruch'", UserWarning, stacklevel=1)
    assert "Invalid value" in stream.getvalue()
    assert "Sauerbruch" not in stream.getvalue()


def test_a_message_that_cannot_be_formed_is_no_end() -> None:
    record = logging.LogRecord("other", logging.WARNING, __file__, 1, "%d of %d", ("x",), None)
    assert PatientDataFilter().filter(record)
    assert record.getMessage() == "a message that cannot be formed (TypeError)"


def test_configuring_again_replaces_the_handler() -> None:
    first, _ = configured(LogStyle.TEXT)
    second, _ = configured(LogStyle.TEXT)
    log.warning("once")
    assert (first.getvalue(), second.getvalue()) == ("", "WARNING once\n")
