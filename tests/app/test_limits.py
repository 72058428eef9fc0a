from __future__ import annotations

import dataclasses

import pytest

from covid_ct_mask_net.app.limits import Limits


def test_limits_are_positive_documented_and_fixed() -> None:
    limits = Limits()
    for field in dataclasses.fields(Limits):
        assert field.name in str(Limits.__doc__)
        assert field.name == "lossy" or getattr(limits, field.name) > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.nesting = 1000  # type: ignore[misc]
