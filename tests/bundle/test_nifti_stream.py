from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from builders.nifti import make_ct_volume
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.nifti_stream import open_nifti


@pytest.mark.parametrize("name", ["volume.nii", "volume.nii.gz"])
def test_header_and_voxels_are_those_that_nibabel_reads(tmp_path: Path, name: str) -> None:
    path = make_ct_volume(tmp_path / name)
    expected = nibabel.load(path)
    with open_nifti(path) as (image, pieces):
        voxels = np.frombuffer(b"".join(pieces), image.dtype).reshape(image.shape, order="F")
    np.testing.assert_array_equal(voxels, expected.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(image.affine, expected.affine, rtol=1e-6)
    assert image.size == voxels.nbytes


def test_what_ends_too_early_is_refused_while_it_is_read(tmp_path: Path) -> None:
    path = make_ct_volume(tmp_path / "volume.nii")
    (tmp_path / "cut.nii.gz").write_bytes(gzip.compress(path.read_bytes()[:-100]))
    with pytest.raises(RefusedInputError) as caught, open_nifti(tmp_path / "cut.nii.gz") as (_, pieces):
        for _ in pieces:
            pass
    assert caught.value.code == "NIFTI_TRUNCATED"
