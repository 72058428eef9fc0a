"""Masses in slices of any chest: what looks like a round consolidation and is none.

A mass is solid, evenly dense and ends abruptly: its border is sharp, and round, lobulated or spiculated; no
bronchus runs open through it (definitions: Hansell et al. 2008, Fleischner Society glossary, Radiology
246:697; what we call a mass is called a nodule there up to 3 cm). Consolidation fades, is ragged and spares
bronchi. A network that never saw a mass takes it for consolidation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.training.synthesis.domes import soft_tissue
from covid_ct_mask_net.training.synthesis.grids import Grid, Labels, Volume
from covid_ct_mask_net.training.synthesis.phantom import smooth_noise

_MOST = 3
_RADIUS_MM = (3.0, 17.0)
_TISSUE_HU = (10.0, 75.0)
_EDGE_MM = (0.6, 1.6)
# Depth of the lobes and their size, as shares of the radius.
_LOBULATED = 0.3
_LOBES = (0.35, 0.9)
# Spicules: how often, how many, how far they reach beyond the border, and how thick they are at it.
_SPICULATED_SHARE = 0.35
_SPICULES = (6, 16)
_SPICULE_MM = (3.0, 12.0)
_SPICULE_WIDTH_MM = 0.8
# Planes that the mean over a slice is made of.
_PLANES = 3


def with_masses(hu: Volume, lungs: Labels, grid: Grid, rng: np.random.Generator) -> tuple[Volume, Labels]:
    """Return neighbouring slices with one to three masses of 6 to 34 mm in the lungs.

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
        Copies; lungs end where a mass fills more than half of a voxel, so that lesions stay out of it.
    """
    shown, left_over = hu.copy(), lungs.copy()
    places = np.argwhere(lungs > 0)
    if not len(places):
        return shown, left_over
    for _ in range(int(rng.integers(1, _MOST + 1))):
        centre = places[rng.integers(len(places))]
        radius = float(np.exp(rng.uniform(*np.log(_RADIUS_MM))))
        radii = radius * rng.lognormal(0, 0.12, 3)
        spiculated = bool(rng.random() < _SPICULATED_SHARE)
        reach = 1.4 * radii + (_SPICULE_MM[1] if spiculated else 0.0)
        box = tuple(
            slice(max(0, int(c - r / s)), min(n, int(c + r / s) + 2))
            for c, r, s, n in zip(centre, reach, grid.spacing, grid.shape, strict=True)
        )
        share = _mass(box, centre, radii, grid, rng, spiculated=spiculated)
        # A mass stays in the lung that it grows in.
        share *= lungs[box] == lungs[tuple(centre)]
        tissue = soft_tissue(share.shape, _TISSUE_HU, rng)
        shown[box] += share * (tissue - shown[box]).clip(0, None)
        left_over[box][share > 0.5] = 0
    return shown, left_over


def _mass(
    box: tuple[slice, ...],
    centre: NDArray[np.int64],
    radii: NDArray[np.float64],
    grid: Grid,
    rng: np.random.Generator,
    *,
    spiculated: bool,
) -> Volume:
    """Return how much of each voxel of a box a mass fills, on the mean over the thickness of its slice."""
    dz, dy, dx = grid.spacing
    planes = (np.arange(_PLANES) - (_PLANES - 1) / 2) / _PLANES
    z = (((np.arange(box[0].start, box[0].stop) - centre[0])[:, None] + planes) * dz).ravel()
    y = (np.arange(box[1].start, box[1].stop) - centre[1]) * dy
    x = (np.arange(box[2].start, box[2].stop) - centre[2]) * dx
    offsets = np.stack(np.meshgrid(z, y, x, indexing="ij")).astype(np.float32)
    radius = np.sqrt(((offsets / radii[:, None, None, None].astype(np.float32)) ** 2).sum(axis=0))
    mean = float(radii.mean())
    size = rng.uniform(*_LOBES) * mean
    lobes = smooth_noise(radius.shape, tuple(size / s for s in (dz / _PLANES, dy, dx)), rng)
    depth = mean * (1 - radius + rng.uniform(0, _LOBULATED) * lobes)
    share = np.clip(0.5 + depth / rng.uniform(*_EDGE_MM), 0, 1)
    if spiculated:
        share = np.maximum(share, _spicules(offsets, mean, rng))
    filled: Volume = share.reshape(-1, _PLANES, *share.shape[1:]).mean(axis=1, dtype=np.float32)
    return filled


def _spicules(offsets: NDArray[np.float32], radius: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return thin strands that run outwards from a border ``radius`` mm away, thinner and fainter as they go.

    ``offsets`` are mm from the centre, (3, Z, Y, X).
    """
    share = np.zeros(offsets.shape[1:], dtype=np.float32)
    distance = np.linalg.norm(offsets, axis=0)
    for _ in range(int(rng.integers(*_SPICULES))):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        along = np.tensordot(direction.astype(np.float32), offsets, axes=1)
        across = np.sqrt(np.maximum(distance**2 - along**2, 0))
        left = 1 - (along - radius) / rng.uniform(*_SPICULE_MM)
        strand = np.clip(_SPICULE_WIDTH_MM * left.clip(0, 1) - across + 0.5, 0, 1) * left.clip(0, 1)
        share = np.maximum(share, np.where(along > 0, strand, 0))
    return share
