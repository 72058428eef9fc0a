"""The command line with the oracle in place of the network; no socket opens while a row is tested."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.command_line import CommandLine
from builders.oracle import oracle_pipeline
from covid_ct_mask_net import pipeline
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.readers import Readers
from covid_ct_mask_net.pipeline import VolumePipeline


@pytest.fixture(scope="session")
def oracle() -> VolumePipeline:
    return oracle_pipeline()


class SharedReaders(Readers):
    """Readers that outlive a run: their start is paid once for all rows."""

    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()


@pytest.fixture(scope="session")
def readers() -> Iterator[SharedReaders]:
    shared = SharedReaders(Limits())
    yield shared
    shared.end()


@pytest.fixture
def triage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    oracle: VolumePipeline,
    readers: SharedReaders,
) -> CommandLine:
    def shared(limits: Limits) -> Readers:
        return readers if limits == readers.limits else Readers(limits)

    monkeypatch.setattr("covid_ct_mask_net.app.run.Readers", shared)
    monkeypatch.setattr(pipeline, "load_pipeline", lambda *_: oracle)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return CommandLine(tmp_path, capsys)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a socket was used")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket.socket, "bind", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
