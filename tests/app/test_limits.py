from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.nifti_stream import NiftiImage


def test_limits_are_positive_documented_and_fixed() -> None:
    limits = Limits()
    for field in dataclasses.fields(Limits):
        assert field.name in str(Limits.__doc__)
        assert field.name == "lossy" or getattr(limits, field.name) > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.nesting = 1000  # type: ignore[misc]


def test_slices_and_sides_of_nifti_files_have_limits_of_their_own() -> None:
    nifti = Limits(maximum_slices=400, maximum_side=512).nifti
    assert (nifti.slices, nifti.side) == (400, 512)
    for axis in range(3):
        # Axial slices of 512 x 512, stored along any axis.
        order = [other for other in (0, 1, 2) if other != axis]
        affine = np.eye(4)
        affine[:3, :3] = 0.0
        affine[2, axis] = affine[0, order[0]] = affine[1, order[1]] = 1.0
        for slices, accepted in ((20, True), (400, True), (401, False)):
            shape = [512, 512, 512]
            shape[axis] = slices
            image = NiftiImage((shape[0], shape[1], shape[2]), "<i2", None, None, affine)
            if accepted:
                nifti.check(image)
                continue
            with pytest.raises(RefusedInputError, match="400 slices") as caught:
                nifti.check(image)
            assert caught.value.code == "NIFTI_SIZE"
