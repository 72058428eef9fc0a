"""A real archive (Debian's Orthanc) in a network namespace that has a loopback interface and nothing else.

Orthanc 1.10 listens on all interfaces and cannot be told otherwise: so it gets none. Clients run in the same
namespace, as processes of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from builders.pacs_client import AE_TITLE, DICOM_PORT, WEB

ANSWERS_PORT = 11113
DICOM = f"{AE_TITLE}@127.0.0.1:{DICOM_PORT}"
ANSWERS = f"127.0.0.1:{ANSWERS_PORT}"
_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
# Root may enter the network alone; others need a user namespace, which gives them the right to.
_NEW = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--net"]
_ENTER = (
    ["nsenter", "--net"] if os.getuid() == 0 else ["nsenter", "--preserve-credentials", "--user", "--net"]
)
_CLIENT = Path(__file__).with_name("pacs_client.py")


@dataclass(frozen=True)
class Pacs:
    """The archive: ``process`` is the process that holds the namespace."""

    process: int

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command where the archive can be reached."""
        return subprocess.run(
            [*_ENTER, "--target", str(self.process), *command],
            capture_output=True, text=True, check=check, timeout=200,
        )  # fmt: skip

    def push(self, folder: Path) -> None:
        """Bring all files of a folder by C-STORE."""
        self.run(sys.executable, str(_CLIENT), "push", str(folder))

    def pull(self, study_instance_uid: str, folder: Path) -> dict[str, list[str]]:
        """Look a study up (QIDO-RS), fetch its instances (WADO-RS), and return their UIDs by modality."""
        done = self.run(sys.executable, str(_CLIENT), "pull", study_instance_uid, str(folder))
        return json.loads(done.stdout)

    def send(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``covid-ct-mask-net send``."""
        return self.run(sys.executable, "-m", "covid_ct_mask_net", "send", *arguments, check=False)


@contextmanager
def running_pacs(folder: Path) -> Iterator[Pacs]:
    """Start the archive; skip the test, saying why, where that is not possible."""
    missing = [name for name in ("Orthanc", "unshare", "nsenter", "ip") if shutil.which(name) is None]
    # tests/run.sh installs it where it may; a stand-in would not show what a real archive accepts.
    if missing or not _PLUGIN.exists():
        pytest.skip(
            f"a PACS is not installed (orthanc, orthanc-dicomweb; missing: {missing or _PLUGIN.name})"
        )
    refused = subprocess.run(
        [*_NEW, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False
    )
    # Without a namespace the archive would listen on the machine's own network, which no test may do.
    if refused.returncode:
        pytest.skip(f"no right to make a network namespace ({refused.stderr.strip()[:100]})")
    configuration = {
        "Name": "archive",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": AE_TITLE,
        "DicomCheckCalledAet": True,
        "DicomPort": DICOM_PORT,
        "HttpPort": urlsplit(WEB).port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "OverwriteInstances": True,
        "DicomModalities": {"us": ["COVIDCTMASKNET", "127.0.0.1", ANSWERS_PORT]},
        "Plugins": [str(_PLUGIN)],
        "DicomWeb": {"Enable": True},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("w") as log:
        process = subprocess.Popen(
            [*_NEW, "sh", "-c", 'ip link set lo up && exec Orthanc "$1"', "sh", str(folder / "orthanc.json")],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            pacs = Pacs(process.pid)
            _wait_until_up(process, pacs, folder / "orthanc.log")
            yield pacs
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_until_up(process: subprocess.Popen[bytes], pacs: Pacs, log: Path) -> None:
    deadline = time.monotonic() + 60
    while "Orthanc has started" not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.1)
    interfaces = pacs.run("ip", "-brief", "link").stdout.splitlines()
    assert [line.split()[0] for line in interfaces] == ["lo"], "the archive can be reached from outside"
