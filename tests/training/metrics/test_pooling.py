from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.lists import read_list
from covid_ct_mask_net.training.metrics.pooling import pool

CHANCES = [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.0, 0.1, 0.9], [0.2, 0.8, 0.0]]
TRUE = [2, 2, 2, 1]
SCANS = ["a", "a", "a", "b"]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mean", [0.4, 0.7 / 3, 1.1 / 3]),
        ("vote", [2 / 3, 0, 1 / 3]),
        ("highest", [0.6 / 1.8, 0.3 / 1.8, 0.9 / 1.8]),
    ],
)
def test_methods(method: str, expected: list[float]) -> None:
    pooled = pool(CHANCES, TRUE, SCANS, method)
    assert pooled.groups == ("a", "b")
    assert pooled.true.tolist() == [2, 1]
    assert pooled.slices.tolist() == [3, 1]
    np.testing.assert_allclose(pooled.probabilities[0], expected)
    assert pooled.predicted[1] == 1


def test_groups_of_mixed_class_and_unknown_methods_are_refused() -> None:
    with pytest.raises(RefusedInputError, match="Slices of a have the classes 1, 2"):
        pool(CHANCES, [2, 1, 2, 1], SCANS)
    with pytest.raises(UsageError, match="mean, vote, highest"):
        pool(CHANCES, TRUE, SCANS, "median")


def test_the_published_test_list_has_483_scans_of_293_patients(shared_data: Path) -> None:
    """Paper D7."""
    listed = read_list(shared_data / "covidx-ct-splits" / "test_COVIDx_CT-1.txt")
    true = [int(one.name.slice_class or 0) for one in listed]
    chances = np.eye(3)[true]
    scans = pool(chances, true, [(one.name.patient, one.name.scan) for one in listed])
    assert np.bincount(scans.true).tolist() == [104, 195, 184]
    assert len(pool(chances, true, [one.name.patient for one in listed]).groups) == 293
