from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import Comprehensive3DSRStorage, ImplicitVRLittleEndian

from builders.archives import files, scripted_scp
from builders.certificates import make_certificates
from builders.result_set import made
from covid_ct_mask_net.app.sending.association import Connection
from covid_ct_mask_net.app.sending.peer import Address, Peer, Tls
from covid_ct_mask_net.app.sending.receipts import Delivery, Retries
from covid_ct_mask_net.app.sending.result_files import result_files
from covid_ct_mask_net.app.sending.store import StoreUser


def test_what_arrives_is_what_was_written() -> None:
    with scripted_scp() as scp:
        receipts = StoreUser(scp.connection).send(files())
    assert [receipt.delivery for receipt in receipts] == [Delivery.STORED] * len(files())
    assert [d.SOPInstanceUID for d in scp.stored] == [file.sop_instance_uid for file in files()]
    assert scp.stored == [pydicom.dcmread(file.path) for file in files()]


def test_a_peer_that_knows_implicit_vr_alone_gets_that() -> None:
    with scripted_scp(syntaxes=[ImplicitVRLittleEndian]) as scp:
        receipts = StoreUser(scp.connection).send(files())
    assert not any(receipt.failed for receipt in receipts)
    assert {d.file_meta.TransferSyntaxUID for d in scp.stored} == {ImplicitVRLittleEndian}
    for sent, stored in zip(files(), scp.stored, strict=True):
        written = pydicom.dcmread(sent.path)
        assert stored.PatientName == written.PatientName
        if "PixelData" in written:
            assert stored.PixelData == written.PixelData


def test_what_may_pass_is_sent_again_over_a_new_association() -> None:
    waited: list[float] = []
    with scripted_scp(statuses=[0x0000, 0xA700, 0x0000]) as scp:
        receipts = StoreUser(scp.connection, sleep=waited.append).send(files())
    assert [receipt.delivery for receipt in receipts] == [Delivery.STORED] * len(files())
    assert waited == [1]
    assert scp.associations == 2
    assert len({d.SOPInstanceUID for d in scp.stored}) == len(scp.stored) == len(files())


@pytest.mark.parametrize("status", [0xA900, 0xC123])
def test_what_is_refused_for_good_is_said_and_the_rest_stored(status: int) -> None:
    with scripted_scp(statuses=[status]) as scp:
        first, *others = StoreUser(scp.connection).send(files())
    assert (first.code, first.delivery) == ("NOT_STORED", Delivery.FAILED)
    assert f"0x{status:04X}" in str(first.sentence)
    assert not any(receipt.failed for receipt in others)


@pytest.mark.parametrize("becomes", ["gone", "cut off", "another"])
def test_a_file_that_changes_meanwhile_has_failed_and_the_rest_is_stored(
    tmp_path: Path, becomes: str
) -> None:
    shutil.copytree(made().folder, tmp_path / "set")
    sending = result_files([tmp_path / "set"])
    first = sending[0].path
    if becomes == "gone":
        first.unlink()
    elif becomes == "cut off":
        first.write_bytes(first.read_bytes()[:200])
    else:
        shutil.copyfile(sending[1].path, first)
    with scripted_scp() as scp:
        receipt, *others = StoreUser(scp.connection).send(sending)
    assert (receipt.code, receipt.delivery, receipt.passing) == ("FILE_CHANGED", Delivery.FAILED, False)
    assert "removed or replaced" in str(receipt.sentence)
    assert len(others) == len(scp.stored) == len(sending) - 1
    assert not any(other.failed for other in others)


def test_a_warning_counts_as_stored() -> None:
    with scripted_scp(statuses=[0xB000]) as scp:
        first, *_ = StoreUser(scp.connection).send(files())
    assert first.delivery is Delivery.STORED_WITH_WARNING
    assert not first.failed


def test_a_peer_that_does_not_take_the_report_is_told_apart_with_the_way_out() -> None:
    with scripted_scp(without=[Comprehensive3DSRStorage]) as scp:
        *others, report = StoreUser(scp.connection).send(files())
    assert report.code == "CLASS_REFUSED"
    assert "--sr-class comprehensive" in str(report.sentence)
    assert not any(receipt.failed for receipt in others)


def test_a_peer_that_is_not_there_is_tried_again_and_then_reported() -> None:
    waited: list[float] = []
    connection = Connection(Peer("ARCHIVE", Address("127.0.0.1", 9)), timeout_s=2.0)
    receipts = StoreUser(connection, Retries(further=2), waited.append).send(files())
    assert waited == [1, 2]
    assert {receipt.code for receipt in receipts} == {"PEER_UNREACHABLE"}


def test_over_tls_both_sides_show_certificates(tmp_path: Path) -> None:
    ours, strangers = make_certificates(tmp_path / "ours"), make_certificates(tmp_path / "strangers")
    server = Tls(ours.authority, ours.certificate, ours.key).server_context()
    with scripted_scp(tls=server) as scp:
        peer = Peer("ARCHIVE", Address("127.0.0.1", scp.port))

        def codes(tls: Tls | None) -> set[str | None]:
            connection = Connection(peer, tls=tls, timeout_s=3.0)
            return {receipt.code for receipt in StoreUser(connection, Retries(further=0)).send(files()[:1])}

        assert codes(Tls(ours.authority, ours.certificate, ours.key)) == {None}
        # Their certificate is of another authority; we have none; ours is of another one; no TLS at all.
        assert codes(Tls(strangers.authority, ours.certificate, ours.key)) == {"PEER_UNREACHABLE"}
        assert codes(Tls(ours.authority)) != {None}
        assert codes(Tls(ours.authority, strangers.certificate, strangers.key)) != {None}
        assert codes(None) != {None}
    assert len(scp.stored) == 1
