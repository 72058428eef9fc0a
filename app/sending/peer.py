"""Who results are sent to, and how the connection is secured."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from covid_ct_mask_net.errors import UsageError

# PS3.5 6.2: AE is up to 16 characters, no backslash, no control characters, not only spaces.
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:@/\s]+):(?P<port>[0-9]{1,5})")

_NOT_PEM = "A certificate or key file is not in PEM form, or the key is of another certificate."


@dataclass(frozen=True)
class Address:
    """Host and port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address ``host:port``; an IPv6 address stands in brackets.

        Raises
        ------
        UsageError
            ``ADDRESS``.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None or not 0 < int(match["port"]) < 65536:
            raise UsageError(
                "ADDRESS", f"{text!r} is no host:port, for example pacs.example.org:11112 or [::1]:11112."
            )
        return cls(match["host"].strip("[]"), int(match["port"]))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Peer:
    """A DICOM application entity: its title and address."""

    ae_title: str
    address: Address

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Return the peer ``AET@host:port``.

        Raises
        ------
        UsageError
            ``ADDRESS`` or ``AE_TITLE``.
        """
        title, separator, address = text.rpartition("@")
        if not separator:
            raise UsageError(
                "ADDRESS", f"{text!r} is no AET@host:port, for example PACS@pacs.example.org:104."
            )
        return cls(ae_title(title), Address.parse(address))

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.address}"


@dataclass(frozen=True)
class Tls:
    """Certificates in PEM files.

    Attributes
    ----------
    authority
        Who the peer's certificate must come from; None for the authorities of the system.
    certificate, key
        Our own, for peers that ask for one; the key may be in the file of the certificate.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        for path in (self.authority, self.certificate, self.key):
            if path is not None and not path.is_file():
                raise UsageError("CERTIFICATE", f"There is no certificate or key file {str(path)!r}.")
        if self.key is not None and self.certificate is None:
            raise UsageError("CERTIFICATE", "A key needs the certificate that it belongs to (--tls-cert).")

    def context(self) -> ssl.SSLContext:
        """Return a client context: TLS 1.2 or later, the peer's certificate and host name checked.

        Raises
        ------
        UsageError
            ``CERTIFICATE`` if a file is none.
        """
        try:
            context = ssl.create_default_context(
                ssl.Purpose.SERVER_AUTH, cafile=None if self.authority is None else str(self.authority)
            )
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (ssl.SSLError, OSError) as error:
            raise UsageError("CERTIFICATE", _NOT_PEM) from error
        return context

    def server_context(self) -> ssl.SSLContext:
        """Return a context for what the peer opens to us: it too must show a certificate.

        Raises
        ------
        UsageError
            ``CERTIFICATE`` without a certificate of our own.
        """
        if self.certificate is None:
            raise UsageError("CERTIFICATE", "To listen over TLS a certificate is needed (--tls-cert).")
        try:
            context = ssl.create_default_context(
                ssl.Purpose.CLIENT_AUTH, cafile=None if self.authority is None else str(self.authority)
            )
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(self.certificate, self.key)
        except (ssl.SSLError, OSError) as error:
            raise UsageError("CERTIFICATE", _NOT_PEM) from error
        return context


def ae_title(text: str) -> str:
    """Return an AE title without padding.

    Raises
    ------
    UsageError
        ``AE_TITLE``.
    """
    if _AE_TITLE.fullmatch(text) is None or not text.strip():
        raise UsageError("AE_TITLE", f"{text!r} is no AE title: 1 to 16 ASCII characters, no backslash.")
    return text.strip()
