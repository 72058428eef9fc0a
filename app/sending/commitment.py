"""Storage commitment (PS3.4 Annex J, push model): the archive says that it keeps what it was sent.

The answer is a message of its own. It comes over the association of the request while that is open, or over a
new one that the archive opens to us, for which an address to listen at is needed that the archive knows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import evt
from pynetdicom.presentation import build_context

from covid_ct_mask_net.app.headers import quieted
from covid_ct_mask_net.app.sending.association import AssociationError, Connection
from covid_ct_mask_net.app.sending.peer import Address
from covid_ct_mask_net.app.sending.receipts import Delivery, Receipt, Retries
from covid_ct_mask_net.errors import OutputError

# PS3.6 table A-1: SOP class and its well-known instance.
_PUSH_MODEL, _PUSH_MODEL_INSTANCE = UID("1.2.840.10008.1.20.1"), UID("1.2.840.10008.1.20.1.1")
_REQUEST_COMMITMENT = 1
_SUCCESS = 0x0000


@dataclass(eq=False)
class _Answers:
    """Instances that were committed and refused so far, of one transaction."""

    transaction_uid: str
    arrived: threading.Event = field(default_factory=threading.Event)
    committed: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)

    def take(self, event: evt.Event) -> tuple[int, None]:
        """Handle an N-EVENT-REPORT."""
        information = event.event_information
        if str(information.get("TransactionUID", "")) == self.transaction_uid:
            for item in information.get("ReferencedSOPSequence", []):
                self.committed.add(str(item.ReferencedSOPInstanceUID))
            for item in information.get("FailedSOPSequence", []):
                self.refused[str(item.ReferencedSOPInstanceUID)] = int(item.get("FailureReason", 0))
            self.arrived.set()
        return _SUCCESS, None


@dataclass(frozen=True)
class CommitmentUser:
    """Asks an archive to commit to what it stored.

    Attributes
    ----------
    connection
        The archive.
    listen
        Where the archive may bring its answer; None takes it on the association of the request alone.
    wait_s
        How long to wait for the answer.
    retries
        When to try again to reach the archive.
    sleep
        How to wait, in seconds.
    """

    connection: Connection
    listen: Address | None = None
    wait_s: float = 60.0
    retries: Retries = field(default_factory=Retries)
    sleep: Callable[[float], object] = time.sleep

    def commit(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Return the receipts, each stored file with what the archive answered.

        A file that is stored but not committed has failed: the archive may still lose it. So has one where
        the address to listen at cannot be had (``LISTEN``): what was stored before is still on record.
        """
        stored = [receipt for receipt in receipts if not receipt.failed]
        if not stored:
            return list(receipts)
        answers = _Answers(str(generate_uid()))
        try:
            with self._listening(answers):
                self._ask_until_reached(answers, stored)
        except OutputError as error:
            return _all_failed(receipts, error.code, f"No storage commitment: {error.sentence}")
        return [self._answered(receipt, answers) for receipt in receipts]

    def _ask_until_reached(self, answers: _Answers, stored: Sequence[Receipt]) -> None:
        """Ask; while the archive cannot be reached, which may pass, try again. Nothing was asked then."""
        waits = self.retries.waits()
        while True:
            try:
                return self._ask(answers, stored)
            except AssociationError as error:
                wait = next(waits, None) if error.passing else None
                if wait is None:
                    raise
            self.sleep(wait)

    def _ask(self, answers: _Answers, stored: Sequence[Receipt]) -> None:
        request = Dataset()
        request.TransactionUID = answers.transaction_uid
        request.ReferencedSOPSequence = [_reference(receipt) for receipt in stored]
        contexts = [build_context(_PUSH_MODEL)]
        with self.connection.associate(contexts, {evt.EVT_N_EVENT_REPORT: answers.take}) as association:
            answer, _ = association.send_n_action(
                request,
                _REQUEST_COMMITMENT,
                _PUSH_MODEL,
                _PUSH_MODEL_INSTANCE,
            )
            status = answer.get("Status")
            if status != _SUCCESS:
                found = "no answer" if status is None else f"status 0x{status:04X}"
                raise AssociationError(
                    "NOT_COMMITTED", f"{self.connection.peer} declines it ({found}).", passing=False
                )
            if self.listen is None:
                answers.arrived.wait(self.wait_s)
                return
        answers.arrived.wait(self.wait_s)

    @contextmanager
    def _listening(self, answers: _Answers) -> Iterator[None]:
        if self.listen is None:
            yield
            return
        entity = self.connection.entity()
        # The archive is the SCP of the service also on the association that it opens.
        entity.add_supported_context(_PUSH_MODEL, scu_role=False, scp_role=True)
        entity.require_called_aet = True
        context = None if self.connection.tls is None else self.connection.tls.server_context()
        with quieted("pynetdicom"):
            try:
                server = entity.start_server(
                    (self.listen.host, self.listen.port),
                    block=False,
                    ssl_context=context,
                    evt_handlers=[(evt.EVT_N_EVENT_REPORT, answers.take)],
                )
            except OSError as error:
                raise OutputError(
                    "LISTEN",
                    f"Nothing can be received at {self.listen} ({error.strerror}); name another address.",
                ) from error
            try:
                yield
            finally:
                if server is not None:
                    server.shutdown()

    def _answered(self, receipt: Receipt, answers: _Answers) -> Receipt:
        if receipt.failed:
            return receipt
        uid = receipt.file.sop_instance_uid
        if uid in answers.committed:
            return replace(receipt, delivery=Delivery.COMMITTED)
        if uid in answers.refused:
            sentence = (
                f"{self.connection.peer} does not commit to it (reason 0x{answers.refused[uid]:04X}); "
                "send it again."
            )
        else:
            sentence = (
                f"{self.connection.peer} did not answer the request for storage commitment within "
                f"{self.wait_s:g} s; it must know where to send the answer (--listen)."
            )
        return Receipt(receipt.file, Delivery.FAILED, "NOT_COMMITTED", sentence)


def _reference(receipt: Receipt) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = receipt.file.sop_class_uid
    item.ReferencedSOPInstanceUID = receipt.file.sop_instance_uid
    return item


def _all_failed(receipts: Sequence[Receipt], code: str, sentence: str) -> list[Receipt]:
    return [r if r.failed else Receipt(r.file, Delivery.FAILED, code, sentence) for r in receipts]
