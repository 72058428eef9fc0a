"""The one place where the time is read, so that runs can be made reproducible to the byte."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from covid_ct_mask_net.errors import UsageError


def is_fixed() -> bool:
    """Return whether ``SOURCE_DATE_EPOCH`` asks for the same bytes in every run."""
    return "SOURCE_DATE_EPOCH" in os.environ


def now() -> datetime:
    """Return the current time in UTC, or the instant that ``SOURCE_DATE_EPOCH`` names.

    Raises
    ------
    UsageError
        If ``SOURCE_DATE_EPOCH`` is set to something that is not a whole number of seconds.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            "SOURCE_DATE_EPOCH",
            f"SOURCE_DATE_EPOCH is {epoch!r}, but must be a whole number of seconds since 1970; "
            "correct it or unset it.",
        ) from error
