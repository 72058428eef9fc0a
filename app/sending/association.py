"""Associations with an archive: what is proposed, and why one does not come about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from covid_ct_mask_net.app.headers import quieted
from covid_ct_mask_net.app.sending.peer import Peer, Tls
from covid_ct_mask_net.app.sending.result_files import ResultFile
from covid_ct_mask_net.errors import OutputError

# PS3.8 9.3.4: the peer says whether trying again makes sense.
_REJECTED_TRANSIENT = 2
_REASONS = {
    (1, 3): "it does not know our AE title (--calling-aet)",
    (1, 7): "it does not know its AE title",
    (3, 1): "it is congested",
    (3, 2): "its limit of associations is reached",
}


class AssociationError(OutputError):
    """No association with the peer; ``passing`` tells whether it may be better a little later."""

    def __init__(self, code: str, sentence: str, *, passing: bool) -> None:
        super().__init__(code, sentence)
        self.passing = passing


@dataclass(frozen=True)
class Connection:
    """How a peer is talked to.

    Attributes
    ----------
    peer
        The archive.
    calling_ae_title
        Ours.
    tls
        Certificates, or None for a plain connection.
    timeout_s
        For the connection, for each answer, and without any traffic.
    """

    peer: Peer
    calling_ae_title: str = "COVIDCTMASKNET"
    tls: Tls | None = None
    timeout_s: float = 30.0

    def entity(self) -> AE:
        """Return our application entity."""
        entity = AE(ae_title=self.calling_ae_title)
        entity.connection_timeout = entity.acse_timeout = self.timeout_s
        entity.dimse_timeout = entity.network_timeout = self.timeout_s
        return entity

    @contextmanager
    def associate(
        self,
        contexts: Iterable[PresentationContext],
        handlers: Mapping[Any, Callable[[evt.Event], Any]] | None = None,
    ) -> Iterator[Association]:
        """Open an association, and release it at the end.

        Parameters
        ----------
        contexts : iterable of PresentationContext
            What is proposed.
        handlers : mapping, optional
            Functions by pynetdicom event.

        Raises
        ------
        AssociationError
            ``PEER_UNREACHABLE`` or ``PEER_REFUSED``.
        """
        address = self.peer.address
        # pynetdicom writes addresses, titles and, when it debugs, data sets into its log.
        with quieted("pynetdicom"):
            association = self.entity().associate(
                address.host,
                address.port,
                contexts=list(contexts),
                ae_title=self.peer.ae_title,
                tls_args=None if self.tls is None else (self.tls.context(), address.host),
                evt_handlers=list((handlers or {}).items()),
            )
            if not association.is_established:
                raise self._error(association)
            try:
                yield association
            finally:
                if association.is_established:
                    association.release()

    def _error(self, association: Association) -> AssociationError:
        if association.is_rejected:
            answer = association.acceptor.primitive
            source, reason = getattr(answer, "result_source", 0), getattr(answer, "diagnostic", 0)
            why = _REASONS.get((source, reason), "it gives no reason that helps")
            return AssociationError(
                "PEER_REFUSED",
                f"{self.peer} refuses the association: {why}.",
                passing=getattr(answer, "result", None) == _REJECTED_TRANSIENT,
            )
        if association.acceptor.primitive is not None:
            return AssociationError(
                "PEER_REFUSED",
                f"{self.peer} accepts none of what was proposed; it must support these objects.",
                passing=False,
            )
        return AssociationError(
            "PEER_UNREACHABLE",
            f"There is no answer from {self.peer}{'' if self.tls is None else ' over TLS'}; check address, "
            "port, firewall and certificates, and that it runs.",
            passing=True,
        )


def storage_contexts(files: Iterable[ResultFile]) -> list[PresentationContext]:
    """Return one context for each SOP class of the files.

    Each proposes the transfer syntax of its files and, for uncompressed ones, Implicit VR Little Endian,
    which every peer must know (PS3.5 10.1).
    """
    syntaxes: dict[str, dict[str, None]] = {}
    for file in files:
        syntaxes.setdefault(file.sop_class_uid, {})[file.transfer_syntax_uid] = None
    for known in syntaxes.values():
        if ExplicitVRLittleEndian in known:
            known[ImplicitVRLittleEndian] = None
    return [build_context(sop_class, list(known)) for sop_class, known in syntaxes.items()]
