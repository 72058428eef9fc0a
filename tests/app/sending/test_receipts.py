from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from builders.archives import files
from covid_ct_mask_net.app.sending.receipts import (
    Delivery,
    Receipt,
    Retries,
    failed,
    record,
    send_with_retries,
)
from covid_ct_mask_net.app.sending.result_files import ResultFile
from covid_ct_mask_net.errors import UsageError


def test_waits_double_up_to_the_longest() -> None:
    assert list(Retries(further=5, first_wait_s=1, longest_wait_s=5).waits()) == [1, 2, 4, 5, 5]


@pytest.mark.parametrize("values", [{"further": -1}, {"first_wait_s": -1.0}, {"longest_wait_s": 0.5}])
def test_settings_are_checked(values: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Retries(**values)  # type: ignore[arg-type]


def test_only_what_may_pass_is_tried_again() -> None:
    first, second, *_ = files()
    attempts: list[list[ResultFile]] = []
    waited: list[float] = []

    def attempt(left: Sequence[ResultFile]) -> list[Receipt]:
        attempts.append(list(left))
        if len(attempts) == 3:
            return [Receipt(file, Delivery.STORED) for file in left]
        return [*failed([f for f in left if f == first], "BUSY", "Later.", passing=True),
                *failed([f for f in left if f == second], "NEVER", "Never.")]  # fmt: skip

    receipts = send_with_retries([first, second], attempt, Retries(), waited.append)
    assert attempts == [[first, second], [first], [first]]
    assert waited == [1, 2]
    assert [receipt.delivery for receipt in receipts] == [Delivery.STORED, Delivery.FAILED]


def test_attempts_end() -> None:
    waited: list[float] = []
    receipts = send_with_retries(
        files(), lambda left: failed(left, "BUSY", "Later.", passing=True), Retries(further=2), waited.append
    )
    assert waited == [1, 2]
    assert all(receipt.failed for receipt in receipts)


def test_the_record_names_files_and_no_patient() -> None:
    text = record(failed(files(), "BUSY", "Later."), "ARCHIVE@host:1")
    document = json.loads(text)
    assert document["destination"] == "ARCHIVE@host:1"
    assert document["files"][0]["file"].endswith("/seg.dcm")
    assert (document["files"][0]["delivery"], document["files"][0]["code"]) == ("failed", "BUSY")
    assert "PATIENT-1" not in text
