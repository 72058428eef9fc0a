"""How long a study may take."""

from __future__ import annotations

import time
from collections.abc import Callable

from covid_ct_mask_net.errors import RefusedInputError


class Deadline:
    """A limit on time that starts with the first check.

    Parameters
    ----------
    seconds : float
        How long; 0 for no limit.
    setting : str
        Name of the setting, for the reason.
    clock : callable
        Seconds from any start.
    """

    def __init__(self, seconds: float, setting: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._setting = setting
        self._clock = clock
        self._end: float | None = None

    def passed(self) -> bool:
        """Tell whether the time is over; the first call starts it."""
        if self._end is None:
            self._end = self._clock() + self._seconds
        return self._seconds > 0 and self._clock() > self._end

    def check(self) -> None:
        """Raise if the time is over.

        Raises
        ------
        RefusedInputError
            ``TIME_LIMIT``.
        """
        if self.passed():
            raise RefusedInputError(
                "TIME_LIMIT",
                f"The study took longer than {self._seconds:g} s ({self._setting}) and was given up; raise "
                "the limit for large studies or slow machines.",
            )
