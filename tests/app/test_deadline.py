from __future__ import annotations

import pytest

from covid_ct_mask_net.app.deadline import Deadline
from covid_ct_mask_net.errors import RefusedInputError


def test_the_clock_starts_with_the_first_check() -> None:
    times = iter([100.0, 100.0, 110.0, 110.1])
    deadline = Deadline(10.0, "study_seconds", lambda: next(times))
    deadline.check()
    deadline.check()
    with pytest.raises(RefusedInputError, match=r"longer than 10 s \(study_seconds\)") as caught:
        deadline.check()
    assert caught.value.code == "TIME_LIMIT"


def test_zero_is_no_limit() -> None:
    times = iter(range(0, 10**6, 10**5))
    deadline = Deadline(0.0, "study_seconds", lambda: float(next(times)))
    assert not any(deadline.passed() for _ in range(5))
