from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders.oracle import CONSOLIDATION_HU, GGO_HU, SPACING, chest_with_lesions, oracle_pipeline
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.release.scans import (
    AssessedScan,
    Overlap,
    assess,
    assess_cohort,
    read_scans,
    write_scans,
)


def test_a_file_of_scans_is_read_back(tmp_path: Path) -> None:
    scans = [
        AssessedScan("a", 1, ((0.5, 1.0, 2.0),), (1,), 3.5, {"lesion": Overlap(1.0, 2.0, 3.0)}),
        AssessedScan("b", None, reason="NOT_CHEST"),
    ]
    write_scans(tmp_path / "scans.jsonl", scans)
    assert read_scans(tmp_path / "scans.jsonl") == scans


def test_dice_of_volumes() -> None:
    assert Overlap(1.0, 2.0, 3.0).dice == pytest.approx(0.4)
    assert np.isnan(Overlap(0.0, 0.0, 0.0).dice)


def test_a_folder_without_cohort_is_named(tmp_path: Path) -> None:
    with pytest.raises(RefusedInputError, match="synthesize") as caught:
        list(assess_cohort(oracle_pipeline(), tmp_path))
    assert caught.value.code == "NO_COHORT"


def _volume(*, lesions: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hu = chest_with_lesions(lesions=lesions).transpose(2, 1, 0)
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
    truth = np.where(hu == GGO_HU, 1, np.where(hu == CONSOLIDATION_HU, 2, 0)).astype(np.uint8)
    return hu, affine, truth


def test_a_scan_is_compared_with_its_truth() -> None:
    hu, affine, truth = _volume()
    scan = assess(oracle_pipeline(), "a", hu, affine, SliceClass.COVID_19, truth)
    assert scan.reason is None
    assert scan.overlaps is not None
    # The oracle sees what is there, within its mask's resolution.
    assert all(overlap.dice > 0.8 for overlap in scan.overlaps.values())
    assert scan.overlaps["lesion"].true == pytest.approx(
        np.count_nonzero(truth) * np.prod(SPACING) / 1000, rel=1e-5
    )
    predicted = np.array(scan.logits).argmax(axis=1)
    assert np.array_equal(predicted, scan.slice_classes)
    assert set(scan.slice_classes) == {0, 2}
    assert scan.percent > 0


def test_a_scan_without_truth_or_lungs() -> None:
    hu, affine, _ = _volume(lesions=False)
    scan = assess(oracle_pipeline(), "b", hu, affine)
    assert scan.overlaps is None
    assert scan.scan_class is None
    assert scan.percent == 0
    refused = assess(oracle_pipeline(), "c", np.full_like(hu, 40.0), affine)
    assert refused.reason
    assert refused.logits == ()
