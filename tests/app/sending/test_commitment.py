from __future__ import annotations

import socket

from builders.archives import files, scripted_scp
from covid_ct_mask_net.app.sending.association import Connection
from covid_ct_mask_net.app.sending.commitment import CommitmentUser
from covid_ct_mask_net.app.sending.peer import Address, Peer
from covid_ct_mask_net.app.sending.receipts import Delivery, Receipt, Retries, failed


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
    connection = Connection(Peer("ARCHIVE", Address("127.0.0.1", 9)), timeout_s=1.0)
    nobody = CommitmentUser(connection, retries=Retries(further=0))
    assert nobody.commit(receipts) == receipts
    mixed = [*receipts[:1], *stored()[1:]]
    first, *others = nobody.commit(mixed)
    assert first.code == "NOT_STORED"
    assert {receipt.code for receipt in others} == {"PEER_UNREACHABLE"}


def test_an_address_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("127.0.0.1", int(taken.getsockname()[1]))
        with scripted_scp() as scp:
            receipts = CommitmentUser(scp.connection, address).commit(stored())
    # Not raised: what was stored until now must not be lost from the record.
    assert {receipt.code for receipt in receipts} == {"LISTEN"}
    assert "Nothing can be received at" in str(receipts[0].sentence)


def test_an_archive_that_cannot_be_reached_is_tried_again() -> None:
    waited: list[float] = []
    nobody = Connection(Peer("ARCHIVE", Address("127.0.0.1", free_port())), timeout_s=1.0)
    receipts = CommitmentUser(nobody, retries=Retries(further=2), sleep=waited.append).commit(stored())
    assert waited == [1, 2]
    assert {receipt.code for receipt in receipts} == {"PEER_UNREACHABLE"}


def test_an_archive_that_is_back_answers() -> None:
    with scripted_scp(same_association=True) as scp:
        port, scp.port = scp.port, free_port()
        connection = scp.connection

        def back(_: float) -> None:
            object.__setattr__(connection.peer.address, "port", port)

        receipts = CommitmentUser(connection, wait_s=10.0, sleep=back).commit(stored())
    assert {receipt.delivery for receipt in receipts} == {Delivery.COMMITTED}


def test_an_archive_that_declines_is_not_asked_again() -> None:
    waited: list[float] = []
    with scripted_scp(known_caller="ANOTHER") as scp:
        receipts = CommitmentUser(scp.connection, sleep=waited.append).commit(stored())
    assert waited == []
    assert {receipt.code for receipt in receipts} == {"PEER_REFUSED"}


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
