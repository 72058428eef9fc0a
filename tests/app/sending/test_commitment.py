from __future__ import annotations

import socket

import pytest

from builders.archives import files, scripted_scp
from covid_ct_mask_net.app.sending.association import Connection
from covid_ct_mask_net.app.sending.commitment import CommitmentUser
from covid_ct_mask_net.app.sending.peer import Address, Peer
from covid_ct_mask_net.app.sending.receipts import Delivery, Receipt, failed
from covid_ct_mask_net.errors import OutputError


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def stored() -> list[Receipt]:
    return [Receipt(file, Delivery.STORED) for file in files()]


def test_the_answer_over_an_association_of_the_archive() -> None:
    port = free_port()
    with scripted_scp(answer_to=port) as scp:
        user = CommitmentUser(scp.connection, Address("127.0.0.1", port), wait_s=10.0)
        receipts = user.commit(stored())
    assert {receipt.delivery for receipt in receipts} == {Delivery.COMMITTED}


def test_the_answer_over_the_association_of_the_request() -> None:
    with scripted_scp(same_association=True) as scp:
        receipts = CommitmentUser(scp.connection, wait_s=10.0).commit(stored())
    assert {receipt.delivery for receipt in receipts} == {Delivery.COMMITTED}


def test_what_the_archive_does_not_keep_has_failed() -> None:
    lost = files()[0].sop_instance_uid
    with scripted_scp(same_association=True, refuses={lost}) as scp:
        first, *others = CommitmentUser(scp.connection, wait_s=10.0).commit(stored())
    assert (first.delivery, first.code) == (Delivery.FAILED, "NOT_COMMITTED")
    assert "0x0112" in str(first.sentence)
    assert {receipt.delivery for receipt in others} == {Delivery.COMMITTED}


def test_no_answer_is_a_failure() -> None:
    with scripted_scp() as scp:
        receipts = CommitmentUser(scp.connection, wait_s=0.2).commit(stored())
    assert {receipt.code for receipt in receipts} == {"NOT_COMMITTED"}
    assert "(--listen)" in str(receipts[0].sentence)


def test_nothing_is_asked_for_what_was_not_stored() -> None:
    receipts = failed(files(), "NOT_STORED", "It is full.")
    nobody = Connection(Peer("ARCHIVE", Address("127.0.0.1", 9)), timeout_s=1.0)
    assert CommitmentUser(nobody).commit(receipts) == receipts
    mixed = [*receipts[:1], *stored()[1:]]
    first, *others = CommitmentUser(nobody).commit(mixed)
    assert first.code == "NOT_STORED"
    assert {receipt.code for receipt in others} == {"PEER_UNREACHABLE"}


def test_an_address_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("127.0.0.1", int(taken.getsockname()[1]))
        with scripted_scp() as scp, pytest.raises(OutputError, match="Nothing can be received at"):
            CommitmentUser(scp.connection, address).commit(stored())


def test_answers_to_other_requests_are_not_taken_for_ours() -> None:
    port = free_port()
    with scripted_scp(answer_to=port) as scp:
        original = scp._answer

        def under_another_transaction(report, event_type: int) -> None:
            report.TransactionUID = "1.2.3"
            original(report, event_type)

        scp._answer = under_another_transaction  # type: ignore[method-assign]
        user = CommitmentUser(scp.connection, Address("127.0.0.1", port), wait_s=1.5)
        receipts = user.commit(stored())
    assert {receipt.code for receipt in receipts} == {"NOT_COMMITTED"}
