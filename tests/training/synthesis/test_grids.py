from __future__ import annotations

import numpy as np

from covid_ct_mask_net.training.synthesis.grids import Grid, axial_grid


def test_axes_and_affine_agree() -> None:
    grid = Grid((3, 4, 5), (5.0, 0.8, 0.7), (-100.0, -20.0, -30.0))
    voxel = grid.ras_affine @ [4, 2, 1, 1]
    # RAS negates x and y of LPS.
    assert np.allclose(voxel[:3], [-grid.axis(2)[4], -grid.axis(1)[2], grid.axis(0)[1]], atol=1e-4)


def test_axial_grid_is_centred_and_covers_the_range() -> None:
    grid = axial_grid(64, 320.0, -10.0, 50.0, 5.0)
    assert grid.shape == (13, 64, 64)
    assert grid.axis(2)[0] == -grid.axis(2)[-1] == -157.5
    assert grid.axis(0)[-1] == 50.0
    assert np.isclose(grid.voxel_ml, 0.125)
