from __future__ import annotations

import pytest

from covid_ct_mask_net.app.kernels import is_sharp


@pytest.mark.parametrize(
    "kernel", ["LUNG", "BONEPLUS", "B70f", "Br64d", "Bl57", "I70f", "L", "YA", "FC51", "EDGE"]
)
def test_lung_and_bone_kernels(kernel: str) -> None:
    assert is_sharp(kernel)


@pytest.mark.parametrize(
    "kernel", ["", "STANDARD", "SOFT", "B", "A", "B30f", "B40f", "Br36", "I26f", "FC08", "FC13"]
)
def test_soft_and_unknown_kernels(kernel: str) -> None:
    assert not is_sharp(kernel)
