from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from builders.certificates import make_certificates
from covid_ct_mask_net.app.sending.peer import Address, Peer, Tls, ae_title
from covid_ct_mask_net.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("pacs:104", "pacs", 104), ("10.0.0.1:11112", "10.0.0.1", 11112), ("[::1]:104", "::1", 104)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["pacs", "pacs:", "pacs:0", "pacs:70000", ":104", "::1:104", "a b:104", "x@y:1"]
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(UsageError, match=r"no host:port"):
        Address.parse(text)


def test_a_peer() -> None:
    assert Peer.parse("MY PACS@pacs.example.org:104") == Peer("MY PACS", Address("pacs.example.org", 104))
    with pytest.raises(UsageError, match="no AET@host:port"):
        Peer.parse("pacs.example.org:104")


@pytest.mark.parametrize("text", ["", "   ", "A" * 17, "A\\B", "Ä"])
def test_no_titles(text: str) -> None:
    with pytest.raises(UsageError, match="no AE title"):
        ae_title(text)


def test_connections_are_checked_against_the_authority(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    context = Tls(made.authority, made.certificate, made.key).context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert Tls(made.authority, made.certificate, made.key).server_context().verify_mode is ssl.CERT_REQUIRED


def test_certificates_that_are_none(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(UsageError, match="There is no certificate or key file"):
        Tls(tmp_path / "absent.pem")
    with pytest.raises(UsageError, match="A key needs the certificate"):
        Tls(key=made.key)
    with pytest.raises(UsageError, match="not in PEM form"):
        Tls(tmp_path / "text.pem").context()
    with pytest.raises(UsageError, match="To listen over TLS a certificate is needed"):
        Tls(made.authority).server_context()
