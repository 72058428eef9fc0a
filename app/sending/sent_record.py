"""What stays on record of a run of ``send``: ``sent.json``, and an event of each study in ``audit.jsonl``."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from covid_ct_mask_net.app.audit import Action, AuditLog, Event, Outcome
from covid_ct_mask_net.app.output_folder import SEND_LOCK, locked, unlock
from covid_ct_mask_net.app.sending.receipts import Receipt, record
from covid_ct_mask_net.app.sending.result_files import ResultFile
from covid_ct_mask_net.errors import OutputError
from covid_ct_mask_net.result_set import write_json_atomically

_SENT = "sent.json"


class SentRecord:
    """The record of one run of ``send``; use it as a context.

    Parameters
    ----------
    files : sequence of ResultFile
        All that is to be sent, at least one. ``sent.json`` goes to the home of the first; what an earlier run
        left there is kept as ``sent-1.json``, ``sent-2.json`` and so on. Events go to the audit log in the
        home of each file.
    destination : str
        The archive in words.

    Raises
    ------
    OutputError
        ``OUTPUT_BUSY`` while another ``send`` has its record there, ``OUTPUT_UNWRITABLE``,
        ``AUDIT_UNWRITABLE``: what cannot be recorded is not sent.
    """

    def __init__(self, files: Sequence[ResultFile], destination: str) -> None:
        self._path = files[0].home / _SENT
        self._destination = destination
        self._receipts: list[Receipt] = []
        with contextlib.ExitStack() as held:
            held.callback(unlock, files[0].home / SEND_LOCK, _hold(files[0].home))
            homes = dict.fromkeys(file.home for file in files)
            self._logs = {home: held.enter_context(AuditLog(home / "audit.jsonl")) for home in homes}
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """What became of the files so far."""
        return tuple(self._receipts)

    def send(
        self, study: Sequence[ResultFile], send: Callable[[Sequence[ResultFile]], Sequence[Receipt]]
    ) -> Sequence[Receipt]:
        """Send the files of a study by a function, and record what became of them."""
        try:
            receipts = send(study)
        except BaseException:
            # Also where the process was told to end: some of them may have arrived.
            self._note(study, None)
            raise
        self._note(study, receipts)
        if not self._receipts:
            _keep_earlier(self._path)
        self._receipts += receipts
        # After each study: whatever ends the run, what was sent before stays on record.
        write_json_atomically(self._path, record(self._receipts, self._destination))
        return receipts

    def _note(self, study: Sequence[ResultFile], receipts: Sequence[Receipt] | None) -> None:
        """Add an event to the log of each home; ``receipts`` is None where sending was cut off."""
        for home, log in self._logs.items():
            files = [file for file in study if file.home == home]
            here = [receipt for receipt in receipts or () if receipt.file.home == home]
            if not files:
                continue
            log.record(
                Event.INSTANCES_TRANSFERRED,
                # PS3.15 A.5.3.7: the receiver did not hold them, as far as the sender can tell.
                Action.CREATE,
                Outcome.MAJOR_FAILURE if receipts is None else _outcome(here),
                studies=sorted({file.pseudonym for file in files}),
                details={
                    "instances": len(files),
                    **({} if receipts is None else {"stored": sum(not receipt.failed for receipt in here)}),
                    "reasons": "ENDED_EARLY" if receipts is None else _reasons(here),
                },
                destination=self._destination,
            )


def _outcome(receipts: Sequence[Receipt]) -> Outcome:
    failures = sum(receipt.failed for receipt in receipts)
    if not failures:
        return Outcome.SUCCESS
    return Outcome.SERIOUS_FAILURE if failures == len(receipts) else Outcome.MINOR_FAILURE


def _reasons(receipts: Sequence[Receipt]) -> str:
    return ",".join(sorted({receipt.code for receipt in receipts if receipt.code is not None}))


def _hold(folder: Path) -> int:
    try:
        descriptor = locked(folder / SEND_LOCK)
    except OSError as error:
        raise OutputError(
            "OUTPUT_UNWRITABLE",
            f"No record of what is sent can be kept in {str(folder)!r} ({error.strerror}), so nothing was "
            "sent; make the folder writable.",
        ) from error
    if descriptor is None:
        raise OutputError(
            "OUTPUT_BUSY",
            f"Another send has its record in {str(folder)!r}; wait for its end, then send again.",
        )
    return descriptor


def _keep_earlier(path: Path) -> None:
    """Give the record of an earlier run of ``send`` a name of its own."""
    if path.exists():
        names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(1))
        path.rename(next(name for name in names if not name.exists()))
