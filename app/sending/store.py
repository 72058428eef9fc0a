"""C-STORE of result files (PS3.4 Annex B), with retries of what may pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pydicom import dcmread
from pydicom.uid import UID, Comprehensive3DSRStorage
from pynetdicom.association import Association
from pynetdicom.status import code_to_category

from covid_ct_mask_net.app.headers import DAMAGE, quiet_pydicom
from covid_ct_mask_net.app.sending.association import AssociationError, Connection, storage_contexts
from covid_ct_mask_net.app.sending.receipts import (
    Delivery,
    Receipt,
    Retries,
    changed,
    failed,
    send_with_retries,
)
from covid_ct_mask_net.app.sending.result_files import ResultFile

# PS3.4 table B.2-1: "Refused: Out of Resources" is A7xx; PS3.7 annex C: 0110 is a failure in processing.
_OUT_OF_RESOURCES, _PROCESSING_FAILURE = range(0xA700, 0xA800), 0x0110


@dataclass(frozen=True)
class StoreUser:
    """Sends the files of a study over one association, and over further ones what is left.

    Attributes
    ----------
    connection
        The archive.
    retries
        When to try again.
    sleep
        How to wait, in seconds.
    """

    connection: Connection
    retries: Retries = field(default_factory=Retries)
    sleep: Callable[[float], object] = time.sleep

    def send(self, files: Sequence[ResultFile]) -> list[Receipt]:
        """Send files of one study.

        Returns
        -------
        list of Receipt
            One a file, in their order; nothing is raised for a peer that fails.
        """
        return send_with_retries(files, self._attempt, self.retries, self.sleep)

    def _attempt(self, files: Sequence[ResultFile]) -> list[Receipt]:
        receipts: list[Receipt] = []
        try:
            with self.connection.associate(storage_contexts(files)) as association, quiet_pydicom():
                receipts.extend(self._stored(association, files))
        except AssociationError as error:
            return failed(files, error.code, error.sentence, passing=error.passing)
        return receipts

    def _stored(self, association: Association, files: Sequence[ResultFile]) -> Iterator[Receipt]:
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
        for file in files:
            if file.sop_class_uid not in accepted:
                yield self._failure(file, "CLASS_REFUSED", _class_refused(file, self.connection))
            elif not association.is_established:
                yield self._failure(
                    file, "ASSOCIATION_LOST", f"{self.connection.peer} ended the association.", passing=True
                )
            else:
                yield self._store(association, file)

    def _store(self, association: Association, file: ResultFile) -> Receipt:
        try:
            dataset = dcmread(file.path)
            same = (dataset.SOPClassUID, dataset.SOPInstanceUID) == (
                file.sop_class_uid,
                file.sop_instance_uid,
            )
        except (OSError, *DAMAGE):
            same = False
        if not same:
            return changed(file)
        # From bytes to bytes: pynetdicom converts to Implicit VR where the peer chose that.
        answer = association.send_c_store(dataset)
        status = answer.get("Status")
        if status is None:
            return self._failure(
                file, "NO_ANSWER", f"{self.connection.peer} did not answer in time.", passing=True
            )
        category = code_to_category(status)
        if category == "Success":
            return Receipt(file, Delivery.STORED)
        if category == "Warning":
            remark = f"{self.connection.peer} stored it with status 0x{status:04X}."
            return Receipt(file, Delivery.STORED_WITH_WARNING, "STORE_WARNING", remark)
        return self._failure(
            file,
            "NOT_STORED",
            f"{self.connection.peer} did not store it (status 0x{status:04X}); ask who runs it.",
            passing=status in _OUT_OF_RESOURCES or status == _PROCESSING_FAILURE,
        )

    def _failure(self, file: ResultFile, code: str, sentence: str, *, passing: bool = False) -> Receipt:
        return Receipt(file, Delivery.FAILED, code, sentence, passing)


def _class_refused(file: ResultFile, connection: Connection) -> str:
    sentence = f"{connection.peer} does not take objects of class {UID(file.sop_class_uid).name}"
    if file.sop_class_uid == Comprehensive3DSRStorage:
        return f"{sentence}; triage --sr-class comprehensive writes an older class."
    return f"{sentence}; it must be set up for them, or triage run without them."
