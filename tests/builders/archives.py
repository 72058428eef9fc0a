"""Archives that behave as a test says, on this machine: a C-STORE and commitment SCP, a STOW-RS service."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from ssl import SSLContext
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_role

from builders.result_set import made
from covid_ct_mask_net.app.sending.association import Connection
from covid_ct_mask_net.app.sending.peer import Address, Peer
from covid_ct_mask_net.app.sending.result_files import ResultFile, result_files

COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"


def files() -> tuple[ResultFile, ...]:
    """The result set of the phantom."""
    return result_files([made().folder])


@dataclass
class Scp:
    """What a scripted archive was sent. ``statuses`` are its answers to C-STORE, 0 when they are used up."""

    port: int = 0
    statuses: list[int] = field(default_factory=list)
    stored: list[Dataset] = field(default_factory=list)
    associations: int = 0
    answer_to: int | None = None
    same_association: bool = False
    refuses: set[str] = field(default_factory=set)

    @property
    def connection(self) -> Connection:
        return Connection(Peer("ARCHIVE", Address("127.0.0.1", self.port)), timeout_s=5.0)

    def on_established(self, _: evt.Event) -> None:
        self.associations += 1

    def on_store(self, event: evt.Event) -> int:
        status = self.statuses.pop(0) if self.statuses else 0x0000
        if status < 0xA000:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.stored.append(dataset)
        return status

    def on_action(self, event: evt.Event) -> tuple[int, None]:
        asked = event.action_information
        report = Dataset()
        report.TransactionUID = asked.TransactionUID
        kept, failed = [], []
        for item in asked.ReferencedSOPSequence:
            refused = item.ReferencedSOPInstanceUID in self.refuses
            if refused:
                item.FailureReason = 0x0112
            (failed if refused else kept).append(item)
        report.ReferencedSOPSequence = kept
        if failed:
            report.FailedSOPSequence = failed
        event_type = 2 if failed else 1
        if self.same_association:
            threading.Thread(
                target=event.assoc.send_n_event_report,
                args=(report, event_type, COMMITMENT, COMMITMENT_INSTANCE),
            ).start()
        elif self.answer_to is not None:
            threading.Thread(target=self._answer, args=(report, event_type)).start()
        return 0x0000, None

    def _answer(self, report: Dataset, event_type: int) -> None:
        entity = AE("ARCHIVE")
        entity.add_requested_context(COMMITMENT)
        roles = [build_role(COMMITMENT, scp_role=True)]
        association = entity.associate("127.0.0.1", self.answer_to, ext_neg=roles, ae_title="COVIDCTMASKNET")
        if association.is_established:
            association.send_n_event_report(report, event_type, COMMITMENT, COMMITMENT_INSTANCE)
            association.release()


@contextmanager
def scripted_scp(
    *,
    statuses: Sequence[int] = (),
    syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    without: Sequence[str] = (),
    known_caller: str | None = None,
    tls: SSLContext | None = None,
    **properties: Any,
) -> Iterator[Scp]:
    """Run an archive for all classes of the result set other than ``without``."""
    scp = Scp(statuses=list(statuses), **properties)
    entity = AE("ARCHIVE")
    entity.require_called_aet = True
    entity.require_calling_aet = [known_caller] if known_caller else []
    for sop_class in {file.sop_class_uid for file in files()} - set(without):
        entity.add_supported_context(sop_class, list(syntaxes))
    entity.add_supported_context(COMMITMENT)
    handlers = [
        (evt.EVT_ESTABLISHED, scp.on_established),
        (evt.EVT_C_STORE, scp.on_store),
        (evt.EVT_N_ACTION, scp.on_action),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    scp.port = server.server_address[1]
    try:
        yield scp
    finally:
        server.shutdown()


@dataclass
class Stow:
    """What a scripted STOW-RS service was posted: paths, headers and bodies, and what it answers."""

    port: int = 0
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"


def store_answer(stored: Sequence[ResultFile] = (), refused: Sequence[ResultFile] = ()) -> bytes:
    """Return a Store Instances Response in DICOM JSON; ``refused`` for want of resources."""
    document: dict[str, object] = {}
    for tag, chosen in (("00081199", stored), ("00081198", refused)):
        items = [{"00081155": {"vr": "UI", "Value": [file.sop_instance_uid]}} for file in chosen]
        if tag == "00081198":
            items = [{**item, "00081197": {"vr": "US", "Value": [0xA700]}} for item in items]
        document[tag] = {"vr": "SQ", "Value": items}
    return json.dumps(document).encode()


@contextmanager
def scripted_stow(answers: Sequence[tuple[int, bytes]]) -> Iterator[Stow]:
    """Run a service that gives these answers, one a request."""
    stow = Stow(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            stow.paths.append(self.path)
            stow.headers.append(dict(self.headers))
            stow.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = stow.answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    stow.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield stow
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
