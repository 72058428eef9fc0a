from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from covid_ct_mask_net.clock import is_fixed, now
from covid_ct_mask_net.errors import UsageError


def test_the_time_is_utc_in_whole_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert abs(now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert now().microsecond == 0
    assert not is_fixed()


def test_source_date_epoch_stops_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert now().isoformat() == "2023-11-14T22:13:20+00:00"
    assert is_fixed()


@pytest.mark.parametrize("value", ["", "yesterday", "1.5", "9" * 30])
def test_a_wrong_epoch_is_said(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    with pytest.raises(UsageError, match="whole number of seconds"):
        now()
