from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from builders.archives import files, scripted_scp
from covid_ct_mask_net.app.sending.association import AssociationError, Connection, storage_contexts
from covid_ct_mask_net.app.sending.peer import Address, Peer


def test_one_context_a_class_with_the_syntax_that_every_peer_knows() -> None:
    contexts = storage_contexts(files())
    assert {c.abstract_syntax for c in contexts} == {file.sop_class_uid for file in files()}
    assert all(c.transfer_syntax == [ExplicitVRLittleEndian, ImplicitVRLittleEndian] for c in contexts)


def test_compressed_files_are_proposed_as_they_are() -> None:
    (context,) = storage_contexts([replace(files()[0], transfer_syntax_uid="1.2.840.10008.1.2.5")])
    assert context.transfer_syntax == ["1.2.840.10008.1.2.5"]


def test_an_association_is_released_at_the_end() -> None:
    with scripted_scp() as scp, scp.connection.associate(storage_contexts(files())) as association:
        assert association.is_established
    assert association.is_released


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        connection = Connection(Peer("ARCHIVE", Address("127.0.0.1", free.getsockname()[1])), timeout_s=2.0)
        with (
            pytest.raises(AssociationError, match="There is no answer from ARCHIVE@127") as caught,
            connection.associate(storage_contexts(files())),
        ):
            pass
    assert caught.value.code == "PEER_UNREACHABLE"
    assert caught.value.passing


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [("OTHER", "ARCHIVE", "does not know our AE title"), ("KNOWN", "NOBODY", "does not know its AE title")],
)
def test_a_title_that_is_not_known_is_no_passing_trouble(ours: str, theirs: str, why: str) -> None:
    with scripted_scp(known_caller="KNOWN") as scp:
        connection = Connection(Peer(theirs, Address("127.0.0.1", scp.port)), ours, timeout_s=5.0)
        with (
            pytest.raises(AssociationError, match=why) as caught,
            connection.associate(storage_contexts(files())),
        ):
            pass
    assert not caught.value.passing
