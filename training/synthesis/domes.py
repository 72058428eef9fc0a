"""Domes of the diaphragm in slices of any chest.

Where a plane just touches a dome, a smooth patch of soft tissue lies in the middle of the lung, faint if the
slice is thick: the false friend that looks most like a round consolidation. Chests show their own two domes
in a few slices of a hundred, always at the same places; here they come at any height and in any size.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from covid_ct_mask_net.training.synthesis.anatomy import LEFT, RIGHT
from covid_ct_mask_net.training.synthesis.grids import Grid, Labels, Volume

# Liver and spleen without contrast medium, and late after it.
_TISSUE_HU = (35.0, 150.0)
_NOISE_HU = 12.0
# Planes that the mean over a slice is made of.
_PLANES = 5
_SIDE_SHARE = 0.7


def with_domes(hu: Volume, lungs: Labels, grid: Grid, rng: np.random.Generator) -> tuple[Volume, Labels]:
    """Return neighbouring slices with a dome of the diaphragm under one or both lungs.

    Parameters
    ----------
    hu, lungs : [Z, Y, X]
        Attenuation, and 0, 1 right and 2 left lung.
    grid : Grid
        Of both.
    rng : Generator

    Returns
    -------
    hu, lungs : [Z, Y, X]
        Copies; lungs end where a dome fills more than half of a voxel.
    """
    shown, left_over = hu.copy(), lungs.copy()
    sides = [side for side in (RIGHT, LEFT) if rng.random() < _SIDE_SHARE and (lungs == side).any()]
    for side in sides:
        box = ndimage.find_objects((lungs == side).astype(np.uint8))[0]
        part = lungs[box] == side
        share = _dome(part.shape, grid, rng) * part
        tissue = soft_tissue(part.shape, _TISSUE_HU, rng)
        shown[box] += share * (tissue - shown[box])
        left_over[box][share > 0.5] = 0
    return shown, left_over


def soft_tissue(shape: tuple[int, ...], level: tuple[float, float], rng: np.random.Generator) -> Volume:
    """Return tissue [Z, Y, X] of one density in this range of HU, with the noise of a scan."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), (0, 0.7, 0.7))
    tissue: Volume = (rng.uniform(*level) + _NOISE_HU * noise).astype(np.float32)
    return tissue


def _dome(shape: tuple[int, ...], grid: Grid, rng: np.random.Generator) -> Volume:
    """Return how much of each voxel of a lung's box lies below a dome whose top is in it."""
    dz, dy, dx = grid.spacing
    depth, rows, columns = shape
    top = rng.uniform(0.0, depth) * dz
    height = rng.uniform(25.0, 70.0)
    centre = [side * (0.5 + rng.uniform(-0.15, 0.15)) for side in (rows * dy, columns * dx)]
    radii = [side * rng.uniform(0.15, 0.5) for side in (rows * dy, columns * dx)]
    turn = rng.uniform(-0.5, 0.5)
    y = np.arange(rows)[:, None] * dy - centre[0]
    x = np.arange(columns)[None, :] * dx - centre[1]
    along, across = np.cos(turn) * y + np.sin(turn) * x, np.cos(turn) * x - np.sin(turn) * y
    power = rng.uniform(1.8, 2.6)
    radius = (np.abs(along / radii[0]) ** power + np.abs(across / radii[1]) ** power) ** (2 / power)
    # No organ is an ellipsoid.
    radius += rng.uniform(0, 0.15) * np.sin(2 * np.arctan2(across, along) + rng.uniform(0, 2 * np.pi))
    surface = top - height * (1 - np.sqrt(np.clip(1 - radius, 0, None)))
    surface = np.where(radius < 1, surface, -np.inf)
    z = np.arange(depth, dtype=np.float32)[:, None, None] * dz
    planes = (np.arange(_PLANES) - (_PLANES - 1) / 2) / _PLANES * dz
    return np.mean([z + plane < surface[None] for plane in planes], axis=0, dtype=np.float32)
