from __future__ import annotations

import shutil
from email.parser import BytesParser
from pathlib import Path

import pytest
from requests.auth import HTTPBasicAuth

from builders.archives import files, scripted_stow, store_answer
from builders.result_set import made
from covid_ct_mask_net.app.sending.receipts import Delivery, Retries
from covid_ct_mask_net.app.sending.result_files import result_files
from covid_ct_mask_net.app.sending.stow import BearerToken, StowUser, WebArchive, read_credentials
from covid_ct_mask_net.errors import UsageError


def test_all_files_of_a_study_in_one_request() -> None:
    with scripted_stow([(200, store_answer(files()))]) as stow:
        receipts = StowUser(WebArchive(stow.url)).send(files())
    assert [receipt.delivery for receipt in receipts] == [Delivery.STORED] * len(files())
    assert stow.paths == [f"/dicom-web/studies/{files()[0].study_instance_uid}"]
    header = f"Content-Type: {stow.headers[0]['Content-Type']}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(header + stow.bodies[0]).get_payload()
    assert [part.get_content_type() for part in parts] == ["application/dicom"] * len(files())
    for file in files():
        assert file.path.read_bytes() in stow.bodies[0]


def test_what_was_refused_for_want_of_room_is_posted_again() -> None:
    first, *others = files()
    waited: list[float] = []
    answers = [(202, store_answer(others, [first])), (200, store_answer([first]))]
    with scripted_stow(answers) as stow:
        receipts = StowUser(WebArchive(stow.url), sleep=waited.append).send(files())
    assert not any(receipt.failed for receipt in receipts)
    assert waited == [1]
    assert first.path.read_bytes() in stow.bodies[1]
    assert others[0].path.read_bytes() not in stow.bodies[1]


def test_a_file_that_is_gone_has_failed_and_the_rest_is_posted(tmp_path: Path) -> None:
    shutil.copytree(made().folder, tmp_path / "set")
    first, *others = result_files([tmp_path / "set"])
    first.path.unlink()
    with scripted_stow([(200, store_answer(others))]) as stow:
        receipt, *stored = StowUser(WebArchive(stow.url)).send([first, *others])
        assert StowUser(WebArchive(stow.url)).send([first]) == [receipt]
    assert receipt.code == "FILE_CHANGED"
    assert not any(other.failed for other in stored)
    assert len(stow.bodies) == 1


def test_success_is_believed_only_for_files_that_are_named() -> None:
    with scripted_stow([(200, store_answer(files()[1:]))]) as stow:
        first, *others = StowUser(WebArchive(stow.url)).send(files())
    assert (first.code, first.passing) == ("NOT_STORED", False)
    assert not any(receipt.failed for receipt in others)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"3", b'{"00081199": {"Value": [{}]}}'])
def test_an_answer_that_says_nothing_is_no_success(body: bytes) -> None:
    with scripted_stow([(200, body)]) as stow:
        receipts = StowUser(WebArchive(stow.url)).send(files())
    assert all(receipt.failed for receipt in receipts)


@pytest.mark.parametrize(("status", "attempts"), [(503, 3), (429, 3), (401, 1), (404, 1), (302, 1)])
def test_which_answers_are_tried_again(status: int, attempts: int) -> None:
    waited: list[float] = []
    with scripted_stow([(status, b"")] * 3) as stow:
        receipts = StowUser(WebArchive(stow.url), Retries(further=2), waited.append).send(files())
    assert len(stow.paths) == attempts
    assert f"HTTP status {status}" in str(receipts[0].sentence)


def test_nobody_there() -> None:
    archive = WebArchive("http://127.0.0.1:9/dicom-web", timeout_s=2.0)
    receipts = StowUser(archive, Retries(further=0)).send(files())
    assert {receipt.code for receipt in receipts} == {"PEER_UNREACHABLE"}


def test_credentials_go_along_and_redirects_are_not_followed(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("Bearer secret\n")
    token.chmod(0o600)
    with scripted_stow([(200, store_answer(files()))]) as stow:
        StowUser(WebArchive(stow.url, read_credentials(token))).send(files())
    assert stow.headers[0]["Authorization"] == "Bearer secret"


def test_forms_of_credentials(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("user:pass:word")
    path.chmod(0o600)
    assert read_credentials(path) == HTTPBasicAuth(b"user", b"pass:word")
    path.write_text("Bearer abc")
    assert isinstance(read_credentials(path), BearerToken)
    for text in ("", "Bearer ", "word", "user:one\nuser:two"):
        path.write_text(text)
        with pytest.raises(UsageError, match="must hold one line"):
            read_credentials(path)
    path.chmod(0o644)
    with pytest.raises(UsageError, match="open to others"):
        read_credentials(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_credentials(tmp_path / "absent")


@pytest.mark.parametrize("url", ["ftp://pacs/", "pacs", "http://user:word@pacs/", "http://pacs/?a=b"])
def test_no_addresses(url: str) -> None:
    with pytest.raises(UsageError, match="must be http"):
        WebArchive(url)


def test_credentials_do_not_travel_in_clear() -> None:
    with pytest.raises(UsageError, match="over https only"):
        WebArchive("http://pacs.example.org/dicom-web", BearerToken("secret"))
