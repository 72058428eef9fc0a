from __future__ import annotations

import io
from pathlib import Path

from builders.dicom import make_ct_series, phantom_hu
from covid_ct_mask_net.app import reader_process
from covid_ct_mask_net.app.limits import Limits


def test_messages_keep_their_length() -> None:
    stream = io.BytesIO()
    for message in (b"one", b"", b"x" * 1000):
        reader_process.send(stream, message)
    stream.seek(0)
    assert [reader_process.receive(stream) for _ in range(4)] == [b"one", b"", b"x" * 1000, None]


def test_answers_are_bytes_of_a_header_or_a_refusal(tmp_path: Path) -> None:
    (file,) = make_ct_series(tmp_path, hu=phantom_hu((1, 80, 64)))
    header = reader_process.answer({"path": str(file)}, Limits())
    assert header[:1] == reader_process.HEADER
    assert len(header) < file.stat().st_size
    refused = reader_process.answer({"path": str(tmp_path)}, Limits())
    assert refused[:1] == reader_process.REFUSED
    assert b"NOT_REGULAR_FILE" in refused
