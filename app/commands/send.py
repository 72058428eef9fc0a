"""``covid-ct-mask-net send``: results to an archive, by C-STORE or STOW-RS."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.errors import ExitCode, UsageError

_EXAMPLES = """\
examples:
  covid-ct-mask-net send out --to PACS@pacs.example.org:11112
  covid-ct-mask-net send out --to PACS@pacs:11112 --commit --listen 0.0.0.0:11113
  covid-ct-mask-net send out --to PACS@pacs:2762 --tls --tls-ca ca.pem --tls-cert own.pem --tls-key own.key
  covid-ct-mask-net send out/0123456789ab --stow https://pacs.example.org/dicom-web --credentials token.txt

OUT/sent.json says what became of each file; that of an earlier send is kept as OUT/sent-1.json and so on.
OUT/audit.jsonl gets an event a study. The same study, settings and answer have the same UIDs: sent again,
they replace the first copy if the archive overwrites; many keep the first and say "stored". Another
answer, such as a class after a time limit, has other UIDs and comes beside the earlier one.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "send",
        help="send DICOM results to an archive (C-STORE or STOW-RS)",
        description="Send the DICOM files of result sets to an archive, urgent studies first, and within a "
        f"study what is referred to first. Send to research archives only. {RESEARCH_NOTICE}",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="OUT", help="output folder of triage, or a result set in it"
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--to", metavar="AET@HOST:PORT", help="archive that takes C-STORE")
    target.add_argument("--stow", metavar="URL", help="root of an archive's DICOMweb service")
    parser.add_argument(
        "--retries",
        type=int,
        default=4,
        metavar="N",
        help="further attempts, with doubled waits (default: 4)",
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="seconds for each answer (default: 30)"
    )
    parser.add_argument("--quiet", action="store_true", help="failures only")
    dimse = parser.add_argument_group("with --to")
    dimse.add_argument(
        "--calling-aet", default="COVIDCTMASKNET", metavar="AET", help="our AE title (default: %(default)s)"
    )
    dimse.add_argument("--commit", action="store_true", help="ask for storage commitment and wait for it")
    dimse.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="where the archive brings the answer to --commit; without it the answer must come over the "
        "association of the request",
    )
    dimse.add_argument(
        "--commit-wait", type=float, default=60.0, metavar="S", help="seconds to wait for it (default: 60)"
    )
    dimse.add_argument("--tls", action="store_true", help="DICOM over TLS 1.2 or later")
    security = parser.add_argument_group("certificates and credentials")
    security.add_argument("--tls-ca", type=Path, metavar="PEM", help="authority of the archive's certificate")
    security.add_argument("--tls-cert", type=Path, metavar="PEM", help="our certificate")
    security.add_argument("--tls-key", type=Path, metavar="PEM", help="its key")
    security.add_argument(
        "--credentials",
        type=Path,
        metavar="FILE",
        help="for --stow: private file with one line, 'Bearer TOKEN' or 'user:password'",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Send the results and print what became of them.

    Returns
    -------
    ExitCode
        Done, or output failed if the archive does not have all of the files.
    """
    from covid_ct_mask_net.app.sending.result_files import by_study, result_files
    from covid_ct_mask_net.app.sending.sent_record import SentRecord

    destination, send = _sender(arguments)
    files = result_files(arguments.results)
    with SentRecord(files, destination) as record:
        for study in by_study(files).values():
            _tell(record.send(study, send), quiet=arguments.quiet)
        receipts = record.receipts
    left = sum(receipt.failed for receipt in receipts)
    if not arguments.quiet:
        sys.stdout.write(f"{len(receipts) - left} of {len(receipts)} files are at {destination}.\n")
        sys.stdout.write(f"{RESEARCH_NOTICE}\n")
    return ExitCode.OUTPUT_FAILED if left else ExitCode.DONE


def _sender(arguments: argparse.Namespace) -> tuple[str, Callable[[Sequence], list]]:
    """Return the destination in words and the function that sends the files of a study there."""
    from covid_ct_mask_net.app.sending.peer import Tls
    from covid_ct_mask_net.app.sending.receipts import Retries

    _check(arguments)
    retries = Retries(further=arguments.retries)
    certificates = Tls(arguments.tls_ca, arguments.tls_cert, arguments.tls_key)
    if arguments.stow is not None:
        from covid_ct_mask_net.app.sending.stow import StowUser, WebArchive, read_credentials

        credentials = None if arguments.credentials is None else read_credentials(arguments.credentials)
        archive = WebArchive(arguments.stow, credentials, certificates, arguments.timeout)
        return str(archive), StowUser(archive, retries).send
    from covid_ct_mask_net.app.sending.association import Connection
    from covid_ct_mask_net.app.sending.commitment import CommitmentUser
    from covid_ct_mask_net.app.sending.peer import Address, Peer, ae_title
    from covid_ct_mask_net.app.sending.store import StoreUser

    peer = Peer.parse(arguments.to)
    connection = Connection(
        peer, ae_title(arguments.calling_aet), certificates if arguments.tls else None, arguments.timeout
    )
    store = StoreUser(connection, retries)
    if not arguments.commit:
        return str(peer), store.send
    listen = None if arguments.listen is None else Address.parse(arguments.listen)
    commitment = CommitmentUser(connection, listen, arguments.commit_wait, retries)
    return str(peer), lambda files: commitment.commit(store.send(files))


def _check(arguments: argparse.Namespace) -> None:
    """Refuse switches that would be without effect."""
    if arguments.timeout <= 0 or arguments.commit_wait <= 0:
        raise UsageError("SETTING", "Times to wait are above 0 seconds.")
    if arguments.stow is not None and (arguments.commit or arguments.tls or arguments.listen):
        raise UsageError(
            "SETTING", "--commit, --listen and --tls go with --to; STOW-RS is secured by an https address."
        )
    if arguments.to is not None and arguments.credentials is not None:
        raise UsageError(
            "SETTING", "--credentials goes with --stow; C-STORE knows certificates (--tls-cert)."
        )
    if arguments.listen is not None and not arguments.commit:
        raise UsageError("SETTING", "--listen goes with --commit.")
    named = (arguments.tls_ca, arguments.tls_cert, arguments.tls_key)
    if arguments.to is not None and not arguments.tls and any(path is not None for path in named):
        raise UsageError("SETTING", "Certificates are named, but --tls is not.")


def _tell(receipts: Sequence, *, quiet: bool) -> None:
    for receipt in receipts:
        if receipt.failed:
            sys.stderr.write(f"{receipt.file.name}: {receipt.code}: {receipt.sentence}\n")
        elif not quiet:
            remark = "" if receipt.sentence is None else f" ({receipt.sentence})"
            sys.stdout.write(f"{receipt.file.name}: {receipt.delivery.value}{remark}\n")
