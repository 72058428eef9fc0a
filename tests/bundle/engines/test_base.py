"""What engines have in common."""

from __future__ import annotations

import pytest

from covid_ct_mask_net.engines.base import missing_packages, require_packages, worker_count
from covid_ct_mask_net.errors import UsageError


def test_one_worker_a_core_unless_told() -> None:
    assert worker_count(0) >= 1
    assert worker_count(3) == 3


def test_missing_packages_are_named() -> None:
    assert missing_packages(("numpy", "no_such_package")) == ["no_such_package"]
    require_packages("exact", ("numpy",))
    with pytest.raises(UsageError, match="no_such_package"):
        require_packages("exact", ("no_such_package",))
