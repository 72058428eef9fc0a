from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.transforms.quality import CheckQualityd, implausible_slices, tissue_noise

AFFINE = np.diag([0.8, 0.8, 2.0, 1.0])


def tissue(noise: float = 10.0) -> np.ndarray:
    values = 50 + np.random.default_rng(0).normal(0, noise, (64, 64, 20))
    return values.astype(np.float32)


@pytest.mark.parametrize("noise", [10.0, 100.0])
def test_noise_is_measured(noise: float) -> None:
    assert tissue_noise(tissue(noise)) == pytest.approx(noise, rel=0.1)


def test_warnings_and_limit() -> None:
    check = CheckQualityd("volume").check
    assert check(tissue(), AFFINE) == ()
    assert [r.code for r in check(tissue(200), AFFINE)] == ["NOISE"]
    with pytest.raises(NotAssessableError):
        CheckQualityd("volume", noise_warning_hu=50, noise_limit_hu=100).check(tissue(150), AFFINE)
    assert [r.code for r in check(tissue(), np.diag([0.8, 0.8, 12.0, 1.0]))] == ["OUT_OF_TRAINING_RANGE"]
    metal = tissue()
    metal[:20, :20, :10] = 3071
    assert "METAL" in [r.code for r in check(metal, AFFINE)]


def test_a_damaged_slice_stands_out() -> None:
    hu = tissue()
    hu[..., 7] = np.random.default_rng(1).uniform(-1000, 3000, hu.shape[:2])
    assert implausible_slices(hu, 6.0) == (7,)


def test_thresholds_must_rise() -> None:
    with pytest.raises(UsageError):
        CheckQualityd("volume", noise_warning_hu=500)
