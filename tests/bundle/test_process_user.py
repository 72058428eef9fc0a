"""Processes of users without a name or a home."""

from __future__ import annotations

import atexit
import getpass
import os
import pwd
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.process_user import settle_user


@pytest.fixture(autouse=True)
def at_exit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Callable[[], object]]:
    """The clean-ups that were registered; the environment is restored after the test."""
    registered: list[Callable[[], object]] = []
    monkeypatch.setattr(
        atexit, "register", lambda f, *args, **options: registered.append(lambda: f(*args, **options))
    )
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        # First set, so that what the test leaves behind is removed again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return registered


@pytest.fixture
def _unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> Any:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("_unknown")
def test_an_unknown_user_gets_a_name(tmp_path: Path) -> None:
    settle_user()
    assert getpass.getuser() == "covid-ct-mask-net"
    assert os.environ["HOME"] == str(tmp_path)


@pytest.mark.usefixtures("_unknown")
def test_without_a_home_one_is_made_and_removed(
    monkeypatch: pytest.MonkeyPatch, at_exit: list[Callable[[], object]]
) -> None:
    monkeypatch.delenv("HOME")
    settle_user()
    home = Path("~").expanduser()
    assert home.is_dir()
    assert os.access(home, os.W_OK)
    (home / ".cache").mkdir()
    at_exit[0]()
    assert not home.exists()


def test_a_home_that_is_not_there_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    settle_user()
    home = Path(os.environ["HOME"])
    assert home.is_dir()
    home.rmdir()


def test_a_user_like_any_other_keeps_everything(tmp_path: Path, at_exit: list[Callable[[], object]]) -> None:
    settle_user()
    assert "USER" not in os.environ
    assert os.environ["HOME"] == str(tmp_path)
    assert not at_exit


@pytest.mark.usefixtures("_unknown")
def test_without_a_folder_for_temporary_files_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")

    def nowhere(**_: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "mkdtemp", nowhere)
    with pytest.raises(UsageError, match="TMPDIR") as caught:
        settle_user()
    assert caught.value.code == "NO_TEMPORARY_FOLDER"
