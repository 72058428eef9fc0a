"""What became of each file that was to be sent, and when to try again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.app.sending.result_files import ResultFile
from covid_ct_mask_net.clock import now
from covid_ct_mask_net.errors import UsageError

_SCHEMA = "covid-ct-mask-net/sent/1"


class Delivery(StrEnum):
    """How far a file came."""

    STORED = "stored"
    STORED_WITH_WARNING = "stored with warning"
    COMMITTED = "committed"
    FAILED = "failed"


@dataclass(frozen=True)
class Receipt:
    """What became of one file.

    Attributes
    ----------
    file
        The file.
    delivery
        How far it came.
    code, sentence
        Why it failed, or what the archive remarked.
    passing
        Whether what failed may succeed a little later.
    """

    file: ResultFile
    delivery: Delivery
    code: str | None = None
    sentence: str | None = None
    passing: bool = False

    @property
    def failed(self) -> bool:
        """Whether the archive does not have the file for certain."""
        return self.delivery is Delivery.FAILED


@dataclass(frozen=True)
class Retries:
    """How often, and after which waits, what may pass by itself is tried again.

    Attributes
    ----------
    further
        Attempts after the first.
    first_wait_s, longest_wait_s
        The wait doubles from the first to the longest.
    """

    further: int = 4
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.further <= 100 or self.first_wait_s < 0 or self.longest_wait_s < self.first_wait_s:
            raise UsageError(
                "SETTING", "Retries are 0 to 100, with a first wait from 0 seconds up to the longest one."
            )

    def waits(self) -> Iterator[float]:
        """Yield the wait in seconds before each further attempt."""
        for number in range(self.further):
            yield min(self.longest_wait_s, self.first_wait_s * 2.0**number)


def failed(files: Sequence[ResultFile], code: str, sentence: str, *, passing: bool = False) -> list[Receipt]:
    """Return receipts of files that all failed for one reason."""
    return [Receipt(file, Delivery.FAILED, code, sentence, passing) for file in files]


def changed(file: ResultFile) -> Receipt:
    """Return the receipt of a file that is not there any more as it was when sending began."""
    return Receipt(
        file,
        Delivery.FAILED,
        "FILE_CHANGED",
        f"{file.name} was removed or replaced after sending began; send again when no run writes there.",
    )


def send_with_retries(
    files: Sequence[ResultFile],
    attempt: Callable[[Sequence[ResultFile]], Sequence[Receipt]],
    retries: Retries,
    sleep: Callable[[float], object],
) -> list[Receipt]:
    """Attempt to send files until each is stored or has failed for good.

    Parameters
    ----------
    files : sequence of ResultFile
        What is to be sent.
    attempt : callable
        Sends the files that it is given and returns one receipt each.
    retries : Retries
        When to try again, with the files whose failure may pass.
    sleep : callable
        Waits for a number of seconds.

    Returns
    -------
    list of Receipt
        One a file, in the order of the files.
    """
    receipts: dict[str, Receipt] = {}
    waits = retries.waits()
    left = list(files)
    while left:
        receipts |= {receipt.file.sop_instance_uid: receipt for receipt in attempt(left)}
        left = [file for file in left if receipts[file.sop_instance_uid].passing]
        wait = next(waits, None)
        if wait is None:
            break
        if left:
            sleep(wait)
    return [receipts[file.sop_instance_uid] for file in files]


def record(receipts: Sequence[Receipt], destination: str) -> str:
    """Return the text of ``sent.json``: every file of the run of ``send`` and what became of it."""
    document = {
        "schema": _SCHEMA,
        "notice": RESEARCH_NOTICE,
        "created": now().isoformat(),
        "destination": destination,
        "files": [
            {
                "file": receipt.file.name,
                "sop_class_uid": receipt.file.sop_class_uid,
                "sop_instance_uid": receipt.file.sop_instance_uid,
                **{k: v for k, v in dataclasses.asdict(receipt).items() if k != "file"},
            }
            for receipt in receipts
        ],
    }
    return json.dumps(document, indent=2) + "\n"
