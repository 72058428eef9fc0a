"""Lesions as changes of attenuation: ground-glass opacity, crazy paving, consolidation and mixtures.

A lesion replaces a share *a* of the air by fluid: HU' = HU + a (fluid - HU). Vessels, which are fluid
already, stay visible in ground glass (a of 0.15 to 0.5: attenuation rises, vessels are not hidden) and vanish
in consolidation (a near 1), where open bronchi remain as air bronchograms (definitions: Hansell et al. 2008,
Fleischner Society glossary, Radiology 246:697). The same holds in real lungs, so the same code works there.

Labels follow attenuation, as readers do: where about half of the air is gone, on the mean over a few
millimetres, it is consolidation, whatever the pattern (dense crazy paving, ground glass upon ground glass).
Vessels that show in ground glass, and open airways, are not labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.training.synthesis.grids import Grid, Labels, Mask, Volume
from covid_ct_mask_net.training.synthesis.phantom import smooth_noise

FLUID_HU = 35.0
# Share of lost air from which readers speak of consolidation.
_SOLID_SHARE = 0.48
_MEAN_MM = 5.0
_VESSEL_HU = -350.0
# Lungs are worked on in a box this many radii around a lesion.
_REACH = 1.6


class Pattern(StrEnum):
    """What a lesion looks like."""

    GROUND_GLASS = "ground glass"
    CRAZY_PAVING = "crazy paving"
    MIXED = "mixed"
    CONSOLIDATION = "consolidation"


@dataclass(frozen=True)
class Lesion:
    """One lesion.

    Attributes
    ----------
    centre
        Voxel (z, y, x); lesions at the pleura are cut by it.
    radii
        mm along z, y and x.
    pattern
        Appearance.
    filling
        Share of air that is replaced in its ground glass.
    core
        How much of a mixed lesion is consolidated, 0 to 1.
    ragged
        How irregular its border is, 0 to about 1.
    edge_mm
        Width over which it fades.
    density
        Share of air that is replaced where it is consolidated.
    turn
        Angle in the axial plane by which the radii along y and x are turned, in radians.
    """

    centre: tuple[int, int, int]
    radii: tuple[float, float, float]
    pattern: Pattern
    filling: float
    core: float
    ragged: float
    edge_mm: float
    density: float = 0.95
    turn: float = 0.0


@dataclass(frozen=True, eq=False)
class Implanted:
    """A volume with lesions.

    Attributes
    ----------
    hu
        float32 [Z, Y, X].
    labels
        uint8: 0, 1 ground-glass opacity, 2 consolidation.
    instances
        uint16: number of the lesion in the order given, from 1; where lesions overlap the later one.
    """

    hu: Volume
    labels: Labels
    instances: NDArray[np.uint16]


def implant(
    hu: Volume,
    lungs: Labels,
    grid: Grid,
    lesions: Sequence[Lesion],
    rng: np.random.Generator,
    airways: Volume | None = None,
) -> Implanted:
    """Return the volume with lesions in its lungs.

    Parameters
    ----------
    hu, lungs : [Z, Y, X]
        Attenuation and lungs (vessels included); nothing outside the lungs changes.
    grid : Grid
    lesions : sequence of Lesion
    rng : numpy Generator
        For borders and texture.
    airways : float32 [Z, Y, X], optional
        Share of each voxel that is open airway and stays so.
    """
    result = hu.astype(np.float32, copy=True)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    instances = np.zeros(hu.shape, dtype=np.uint16)
    air = np.ones(hu.shape, dtype=np.float32)
    for number, lesion in enumerate(lesions, start=1):
        box = _box(lesion, grid)
        inside = lungs[box] > 0
        if not inside.any():
            continue
        # A lesion stays in the lung that its centre is in; the centre may lie above or below the volume.
        z, y, x = lesion.centre
        side = lungs[min(max(z, 0), len(lungs) - 1), y, x]
        if side:
            inside = lungs[box] == side
        ground, solid = _shape(lesion, box, grid, rng)
        unfaded, texture = _filling(lesion, solid, grid, rng)
        open_air = 1 - airways[box] if airways is not None else np.ones_like(ground)
        filling = unfaded * ground * inside * open_air
        part = result[box]
        fine = part - ndimage.gaussian_filter(part, (0, 1, 1))
        noise = 0.35 * np.clip(fine, -60, 60)
        # Noise does not drown with the air: what is finer than vessels stays, a little weaker.
        added = filling * (FLUID_HU - part + noise)
        result[box] = np.where(part < FLUID_HU, part + added, part)
        lost = 1 - air[box] * (1 - texture)
        air[box] *= 1 - filling
        sigma = _MEAN_MM / grid.spacing[1]
        seen = (ground > 0.5) & inside & (open_air > 0.5)
        dense = seen & ((solid > 0.5) | (ndimage.gaussian_filter(lost, (0, sigma, sigma)) > _SOLID_SHARE))
        vessel = ndimage.gaussian_filter(hu[box], (0, 1, 1)) > _VESSEL_HU
        glass = seen & ~vessel & (labels[box] == 0)
        labels[box] = np.where(dense, LesionClass.CONSOLIDATION, np.where(glass, 1, labels[box]))
        instances[box][seen & (labels[box] > 0)] = number
    return Implanted(result, labels, instances)


def _box(lesion: Lesion, grid: Grid) -> tuple[slice, ...]:
    across = max(lesion.radii[1:]) if lesion.turn else 0.0
    longest = (lesion.radii[0], *(max(across, r) for r in lesion.radii[1:]))
    # Ragged lesions reach out further here and there.
    reach = _REACH + 0.5 * max(0.0, lesion.ragged - 1)
    return tuple(
        slice(max(0, int(c - reach * r / s) - 1), max(0, min(n, int(c + reach * r / s) + 2)))
        for c, r, s, n in zip(lesion.centre, longest, grid.spacing, grid.shape, strict=True)
    )


def _shape(
    lesion: Lesion, box: tuple[slice, ...], grid: Grid, rng: np.random.Generator
) -> tuple[Volume, Volume]:
    """Return how much each voxel belongs to the lesion, and to its consolidated part, 0 to 1."""
    z, y, x = (
        (np.arange(b.start, b.stop, dtype=np.float32) - c) * np.float32(s)
        for b, c, s in zip(box, lesion.centre, grid.spacing, strict=True)
    )
    cosine, sine = np.float32(np.cos(lesion.turn)), np.float32(np.sin(lesion.turn))
    along = (cosine * y[:, None] + sine * x[None, :]) / np.float32(lesion.radii[1])
    across = (cosine * x[None, :] - sine * y[:, None]) / np.float32(lesion.radii[2])
    plane = along**2 + across**2
    radius = np.sqrt((z[:, None, None] / np.float32(lesion.radii[0])) ** 2 + plane[None])
    shape = radius.shape
    mean = float(np.mean(lesion.radii))
    coarse = smooth_noise(shape, tuple(0.7 * mean / s for s in grid.spacing), rng)
    fine = smooth_noise(shape, tuple(0.22 * mean / s for s in grid.spacing), rng)
    depth = 1.0 - radius + lesion.ragged * (0.30 * coarse + 0.14 * fine)
    edge = max(lesion.edge_mm / mean, 0.05)
    ground = np.clip(0.5 + depth / edge, 0, 1)
    if lesion.pattern is Pattern.CONSOLIDATION:
        solid = ground
    elif lesion.pattern is Pattern.MIXED:
        other = smooth_noise(shape, tuple(0.45 * mean / s for s in grid.spacing), rng)
        inner = depth - (1 - lesion.core) * 0.75 + 0.28 * other
        solid = np.clip(0.5 + inner / max(0.1, edge), 0, 1) * (ground > 0.5)
    else:
        solid = np.zeros_like(ground)
    return ground.astype(np.float32), solid.astype(np.float32)


def _filling(lesion: Lesion, solid: Volume, grid: Grid, rng: np.random.Generator) -> tuple[Volume, Volume]:
    """Return the share of air that is replaced, with and without cores, before the lesion fades outward."""
    shape = solid.shape
    uneven = smooth_noise(shape, tuple(5.0 / s for s in grid.spacing), rng)
    share = lesion.filling * (1 + 0.18 * uneven)
    full = lesion.density * (1 + 0.06 * uneven)
    if lesion.pattern is Pattern.CRAZY_PAVING:
        share = share + 0.26 * _septa(shape, grid, rng)
    share = np.clip(share, 0.05, 0.85)
    filled = np.clip(share + solid * np.maximum(full - share, 0), 0, 1)
    return filled.astype(np.float32), share.astype(np.float32)


def _septa(shape: tuple[int, ...], grid: Grid, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the walls between cells about the size of secondary lobules, 1 on a wall."""
    extent = [n * s for n, s in zip(shape, grid.spacing, strict=True)]
    count = int(np.clip(np.prod(extent) / 9.0**3, 8, 600))
    seeds = np.ones(shape, dtype=bool)
    places = tuple(rng.integers(0, n, count) for n in shape)
    seeds[places] = False
    nearest = ndimage.distance_transform_edt(
        seeds, sampling=grid.spacing, return_distances=False, return_indices=True
    )
    cell = np.ravel_multi_index(tuple(nearest), shape)
    wall: Mask = np.zeros(shape, dtype=bool)
    for axis in (1, 2):
        wall |= cell != np.roll(cell, 1, axis=axis)
    return ndimage.gaussian_filter(wall.astype(np.float32), (0, 0.6, 0.6)) * 1.5
