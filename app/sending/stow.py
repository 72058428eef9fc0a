"""STOW-RS (PS3.18 10.5): result files posted to a DICOMweb archive."""

from __future__ import annotations

import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from covid_ct_mask_net.app.sending.peer import Tls
from covid_ct_mask_net.app.sending.receipts import (
    Delivery,
    Receipt,
    Retries,
    changed,
    failed,
    send_with_retries,
)
from covid_ct_mask_net.app.sending.result_files import ResultFile
from covid_ct_mask_net.errors import UsageError

_JSON = "application/dicom+json"
# Answers after which a later attempt may succeed (RFC 9110, RFC 6585).
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
# Store Instances Response (PS3.18 I.2): Warning and Failure Reason, Failed and Referenced SOP Sequence, UID.
_FAILED, _REFERENCED, _INSTANCE = "00081198", "00081199", "00081155"
_FAILURE_REASON, _WARNING_REASON = "00081197", "00081196"
_OUT_OF_RESOURCES = range(0xA700, 0xA800)


@dataclass(frozen=True)
class WebArchive:
    """A DICOMweb archive.

    Attributes
    ----------
    url
        Root of the service, to which ``/studies`` is added.
    credentials
        Authentication, or None; only over https or to this machine.
    tls
        Certificates for https; None for the authorities of the system.
    timeout_s
        For the connection and for the answer.
    """

    url: str
    credentials: AuthBase | None = None
    tls: Tls | None = None
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise UsageError(
                "URL", "The STOW-RS address must be http(s)://host[:port]/path without user name and query."
            )
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if parts.scheme == "http" and self.credentials is not None and not local:
            raise UsageError("URL", "Credentials are sent over https only; use an https address.")

    def __str__(self) -> str:
        return self.url

    def session(self) -> requests.Session:
        """Return a session with the credentials and certificates."""
        session = requests.Session()
        # Neither proxies nor a .netrc of the environment decide where results go.
        session.trust_env = False
        session.auth = self.credentials
        if self.tls is not None:
            self.tls.context()
            session.verify = True if self.tls.authority is None else str(self.tls.authority)
            if self.tls.certificate is not None:
                own = str(self.tls.certificate)
                session.cert = own if self.tls.key is None else (own, str(self.tls.key))
        return session


class BearerToken(AuthBase):
    """Authorization header with a token (RFC 6750)."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def read_credentials(path: Path) -> AuthBase:
    """Return credentials from a file of one line: ``Bearer TOKEN`` or ``user:password``.

    A file, because command lines are seen by every user of the machine.

    Raises
    ------
    UsageError
        ``CREDENTIALS`` if the file is missing, readable by others, or in another form.
    """
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("CREDENTIALS", f"The credentials file {str(path)!r} cannot be read.") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(
            "CREDENTIALS",
            f"The credentials file {str(path)!r} is open to others; make it private (chmod 600).",
        )
    if len(lines) == 1 and lines[0].startswith("Bearer ") and lines[0][7:].strip():
        return BearerToken(lines[0][7:].strip())
    if len(lines) == 1 and ":" in lines[0]:
        user, _, password = lines[0].partition(":")
        return HTTPBasicAuth(user.encode(), password.encode())
    raise UsageError(
        "CREDENTIALS",
        f"The credentials file {str(path)!r} must hold one line, 'Bearer TOKEN' or 'user:password'.",
    )


@dataclass(frozen=True)
class StowUser:
    """Posts the files of a study in one request, and in further ones what is left.

    Attributes
    ----------
    archive
        Where to.
    retries
        When to try again.
    sleep
        How to wait, in seconds.
    """

    archive: WebArchive
    retries: Retries = field(default_factory=Retries)
    sleep: Callable[[float], object] = time.sleep

    def send(self, files: Sequence[ResultFile]) -> list[Receipt]:
        """Send files of one study.

        Returns
        -------
        list of Receipt
            One a file, in their order; nothing is raised for an archive that fails.
        """
        with self.archive.session() as session:
            return send_with_retries(
                files, lambda left: self._attempt(session, left), self.retries, self.sleep
            )

    def _attempt(self, session: requests.Session, files: Sequence[ResultFile]) -> list[Receipt]:
        contents = {file: _content(file) for file in files}
        gone = [changed(file) for file, content in contents.items() if content is None]
        whole = {file: content for file, content in contents.items() if content is not None}
        return [*gone, *(self._posted(session, whole) if whole else ())]

    def _posted(self, session: requests.Session, contents: Mapping[ResultFile, bytes]) -> list[Receipt]:
        files = list(contents)
        boundary = secrets.token_hex(24)
        url = f"{self.archive.url.rstrip('/')}/studies/{files[0].study_instance_uid}"
        headers = {
            "Accept": _JSON,
            "Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"',
        }
        try:
            response = session.post(
                url,
                data=b"".join(_parts(contents.values(), boundary)),
                headers=headers,
                timeout=self.archive.timeout_s,
                allow_redirects=False,
            )
        except requests.exceptions.SSLError:
            return failed(
                files, "CERTIFICATE", f"{self.archive} has no certificate that is trusted (--tls-ca)."
            )
        except requests.exceptions.RequestException as error:
            sentence = f"There is no answer from {self.archive} ({type(error).__name__}); check that it runs."
            return failed(files, "PEER_UNREACHABLE", sentence, passing=True)
        if response.status_code in (200, 202, 409):
            return self._stored(files, response)
        return failed(
            files,
            "NOT_STORED",
            f"{self.archive} answers with HTTP status {response.status_code}; ask who runs it.",
            passing=response.status_code in _PASSING,
        )

    def _stored(self, files: Sequence[ResultFile], response: requests.Response) -> list[Receipt]:
        """Return what the answer says of each file; one that it does not name was not stored."""
        try:
            answer = response.json()
            # Some archives answer with a list of one.
            answer = answer[0] if isinstance(answer, list) else answer
            stored = {uid: _reason(item, _WARNING_REASON) for uid, item in _items(answer, _REFERENCED)}
            refused = {uid: _reason(item, _FAILURE_REASON) for uid, item in _items(answer, _FAILED)}
        except (ValueError, LookupError, TypeError, AttributeError):
            return failed(
                files,
                "ANSWER_UNREADABLE",
                f"{self.archive} does not answer in DICOM JSON, so what it stored is not known.",
            )
        return [self._receipt(file, stored, refused) for file in files]

    def _receipt(
        self, file: ResultFile, stored: dict[str, int | None], refused: dict[str, int | None]
    ) -> Receipt:
        uid = file.sop_instance_uid
        if uid in stored and uid not in refused:
            warning = stored[uid]
            if not warning:
                return Receipt(file, Delivery.STORED)
            remark = f"{self.archive} stored it with warning 0x{warning:04X}."
            return Receipt(file, Delivery.STORED_WITH_WARNING, "STORE_WARNING", remark)
        reason = refused.get(uid)
        found = "it is not named in the answer" if reason is None else f"reason 0x{reason:04X}"
        return Receipt(
            file,
            Delivery.FAILED,
            "NOT_STORED",
            f"{self.archive} did not store it ({found}); ask who runs it.",
            passing=reason is not None and reason in _OUT_OF_RESOURCES,
        )


def _content(file: ResultFile) -> bytes | None:
    try:
        return file.path.read_bytes()
    except OSError:
        return None


def _parts(contents: Iterable[bytes], boundary: str) -> Iterator[bytes]:
    for content in contents:
        yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
        yield content
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("ascii")


def _items(answer: dict[str, dict], tag: str) -> list[tuple[str, dict[str, dict]]]:
    items = answer.get(tag, {}).get("Value", [])
    return [(str(item[_INSTANCE]["Value"][0]), item) for item in items]


def _reason(item: dict[str, dict], tag: str) -> int | None:
    values = item.get(tag, {}).get("Value", [])
    return int(values[0]) if values else None
