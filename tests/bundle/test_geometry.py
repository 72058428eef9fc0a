from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.geometry import CanonicalGrid, voxel_spacing, voxel_volume_ml

# Canonical axes L, P, S in RAS+ coordinates.
CANONICAL = np.array([[-0.8, 0, 0, 100], [0, -0.7, 0, 80], [0, 0, 2.5, -300], [0, 0, 0, 1.0]])


def test_spacing_and_volume_of_a_sheared_grid() -> None:
    tilted = CANONICAL.copy()
    tilted[1, 2] = 1.0
    assert voxel_spacing(CANONICAL) == pytest.approx((0.8, 0.7, 2.5))
    assert voxel_spacing(tilted)[2] == pytest.approx(np.hypot(1.0, 2.5))
    # Shear moves slices against each other and changes no volume.
    assert voxel_volume_ml(tilted) == pytest.approx(voxel_volume_ml(CANONICAL)) == pytest.approx(0.0014)


def test_the_way_to_patient_and_source() -> None:
    # The source has its slices upside down and its columns mirrored: 64 columns, 40 slices.
    flip = np.diag([-1.0, 1.0, -1.0, 1.0])
    flip[0, 3], flip[2, 3] = 63, 39
    grid = CanonicalGrid(CANONICAL, CANONICAL @ flip)
    np.testing.assert_allclose(grid.to_patient([[0, 0, 0]]), [[-100, -80, -300]])
    np.testing.assert_allclose(grid.to_patient([[1, 0, 2]]), [[-99.2, -80, -295]])
    np.testing.assert_allclose(grid.to_source([[10.5, 7, 3]]), [[52.5, 7, 36]], atol=1e-9)
    assert grid.source_slice(3) == 36
    assert grid.slice_position(2) == pytest.approx(-295)
    assert (grid.slice_axis, grid.plane_axes) == (2, (0, 1))


def test_slices_of_a_source_in_another_order_are_counted_along_their_axis() -> None:
    # Sagittal slices: the source counts to posterior, to inferior, to the right; 40 axial slices.
    order = np.array([[0, 0, -1, 63], [1, 0, 0, 0], [0, -1, 0, 39], [0, 0, 0, 1.0]])
    grid = CanonicalGrid(CANONICAL, CANONICAL @ order)
    assert (grid.slice_axis, grid.plane_axes) == (1, (0, 2))
    assert [grid.source_slice(k) for k in (0, 3, 39)] == [39, 36, 0]
