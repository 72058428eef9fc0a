"""A clock that lets the time for the input be over after a number of files."""

from __future__ import annotations

import itertools

import pytest

from covid_ct_mask_net.app import run
from covid_ct_mask_net.app.deadline import Deadline


def let_time_pass(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    """Let ``files`` be looked at in time, and no more; studies have all the time they need."""

    class Late(Deadline):
        def __init__(self, seconds: float, setting: str) -> None:
            super().__init__(seconds, setting)
            self._asked = itertools.count()
            self._limited = setting == "intake_seconds"

        def passed(self) -> bool:
            return self._limited and next(self._asked) >= files

    monkeypatch.setattr(run, "Deadline", Late)
