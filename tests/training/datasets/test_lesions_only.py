from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders.lesion_data import make_cncb
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.training.datasets.cncb import cncb_segmentation
from covid_ct_mask_net.training.datasets.lesions_only import has_lesion, slices_with_lesions


def _labels(ggo: int, consolidation: int) -> np.ndarray:
    """Return labels with a row of so many pixels of each lesion, one below the other."""
    labels = np.zeros((4, 200), dtype=np.uint8)
    labels[1, :ggo], labels[2, :consolidation] = 1, 2
    return labels


@pytest.mark.parametrize(
    ("ggo", "consolidation", "mask_type", "found"),
    [
        (0, 0, "both", False),
        (100, 0, "both", False),
        (101, 0, "both", True),
        (0, 101, "both", True),
        (0, 101, "ggo", False),
        # Neither alone is large enough; together they are one lesion.
        (60, 60, "both", False),
        (60, 60, "merge", True),
    ],
)
def test_a_lesion_counts_if_it_is_taught(ggo: int, consolidation: int, mask_type: str, found: bool) -> None:
    assert has_lesion(_labels(ggo, consolidation), mask_type) is found


def test_many_small_lesions_are_no_large_one() -> None:
    labels = np.zeros((200, 200), dtype=np.uint8)
    labels[::4, :50] = 1
    assert not has_lesion(labels)
    assert has_lesion(labels, minimum_area=49)


def test_a_set_without_lesions_is_refused(tmp_path: Path) -> None:
    root = make_cncb(tmp_path)
    records = cncb_segmentation(root / "images", root / "masks")
    with pytest.raises(RefusedInputError, match="None of 6 slices has a lesion of more than 500 pixels"):
        slices_with_lesions(records, minimum_area=500)
