"""Phantom chests without noise: anatomy, vessels, airways, fissures, and what mimics lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from covid_ct_mask_net.training.synthesis.anatomy import (
    AIR_HU,
    LEFT,
    RIGHT,
    Anatomy,
    draw_anatomy,
    draw_plane,
)
from covid_ct_mask_net.training.synthesis.grids import Grid, Labels, Volume, axial_grid
from covid_ct_mask_net.training.synthesis.trees import Tree, coverage, grow_tree

# Planes nearer than this are means of one plane more a slice.
_PLANE_MM = 2.5
# Of phantoms with emphysema, where nobody says another.
EMPHYSEMA_SHARE = 0.2


@dataclass(frozen=True)
class Mimics:
    """Findings of lungs without infection that a detector must leave alone.

    Attributes
    ----------
    dependent_hu, dependent_mm
        Density of the most dependent lung at the pleura (gravity), and how deep it reaches.
    bands
        Number of plates of atelectasis at the base.
    nodules
        Number of solid nodules of 2 to 6 mm.
    emphysema
        Share of the lung that is destroyed, in [0, 1].
    scar
        Whether the apices have pleural caps.
    """

    dependent_hu: float
    dependent_mm: float
    bands: int
    nodules: int
    emphysema: float
    scar: bool


@dataclass(frozen=True, eq=False)
class Chest:
    """A chest before lesions and noise.

    Attributes
    ----------
    hu, lungs, grid
        [Z, Y, X]; lungs are 0, 1 right, 2 left.
    airways
        Share of each voxel that bronchi fill, float32: lesions leave them open. None where it is not known.
    roots
        Where bronchi enter each lung, (z, y, x) in mm; None where that is not known.
    emphysema
        Share of the lungs that emphysema takes, as it was drawn; 0 where that is not known.
    """

    hu: Volume
    lungs: Labels
    grid: Grid
    airways: Volume | None
    roots: dict[int, tuple[float, float, float]] | None
    emphysema: float = 0.0


def draw_mimics(rng: np.random.Generator, emphysema_share: float = EMPHYSEMA_SHARE) -> Mimics:
    """Return random mimics; most chests have a little of some, and such a share of them emphysema."""
    emphysema = [1 - emphysema_share, emphysema_share]
    return Mimics(
        dependent_hu=float(rng.choice([0.0, 1.0], p=[0.35, 0.65]) * rng.uniform(60, 320)),
        dependent_mm=rng.uniform(3, 11),
        bands=int(rng.choice([0, 1, 2, 3], p=[0.6, 0.2, 0.12, 0.08])),
        nodules=int(rng.choice([0, 1, 2, 5], p=[0.55, 0.2, 0.15, 0.1])),
        emphysema=float(rng.choice([0.0, 1.0], p=emphysema) * rng.uniform(0.05, 0.3)),
        scar=bool(rng.random() < 0.25),
    )


def draw_chest(
    rng: np.random.Generator,
    size: int,
    step_mm: float,
    field_mm: float | None = None,
    emphysema_share: float = EMPHYSEMA_SHARE,
) -> Chest:
    """Return a random chest.

    Parameters
    ----------
    rng : numpy Generator
    size : int
        Rows and columns.
    step_mm : float
        Slice thickness and distance.
    field_mm : float, optional
        Field of view; by default one that holds the body, sometimes cutting the skin.
    emphysema_share : float
        Probability that the chest has emphysema.
    """
    anatomy, mimics = draw_anatomy(rng), draw_mimics(rng, emphysema_share)
    field = field_mm or 2 * anatomy.body_half_width * rng.uniform(0.93, 1.15)
    grid = axial_grid(size, field, rng.uniform(-25, -5), anatomy.height + rng.uniform(4, 18), step_mm)
    tube = _Tubes.grow(anatomy, rng)
    planes = max(1, round(step_mm / _PLANE_MM))
    y, x = grid.axis(1), grid.axis(2)
    hu = np.empty(grid.shape, dtype=np.float32)
    airways = np.zeros(grid.shape, dtype=np.float32)
    lungs = np.zeros(grid.shape, dtype=np.uint8)
    table_y = anatomy.half_depth + 0.75 * anatomy.wall + 24.0 + rng.uniform(4, 14)
    for index, z in enumerate(grid.axis(0)):
        offsets = (np.arange(planes) - (planes - 1) / 2) * step_mm / planes
        parts = [tube.draw(float(z + offset), y, x) for offset in offsets]
        hu[index] = np.mean([part[0] for part in parts], axis=0)
        airways[index] = np.mean([part[1] for part in parts], axis=0)
        lungs[index] = parts[len(parts) // 2][2]
        _draw_table(hu[index], table_y, y, x)
    _add_texture(hu, lungs, grid, mimics, rng)
    _add_mimics(hu, lungs, grid, mimics, rng)
    return Chest(hu, lungs, grid, airways, anatomy.hilum, mimics.emphysema)


@dataclass(frozen=True, eq=False)
class _Tubes:
    """Trees and fissures of a chest."""

    anatomy: Anatomy
    vessels: tuple[Tree, ...]
    bronchi: tuple[Tree, ...]
    fissures: tuple[tuple[int, float, float, float], ...]

    @classmethod
    def grow(cls, anatomy: Anatomy, rng: np.random.Generator) -> _Tubes:
        vessels, bronchi = [], []
        for side in (RIGHT, LEFT):
            points = _points_in_lung(anatomy, side, 620, rng)
            root = anatomy.hilum[side]
            low_root = (root[0] - 22.0, root[1] + 4.0, root[2])
            # Arteries follow bronchi; veins run between them to a lower root.
            vessels.append(grow_tree(root, points[:270], 0.62, rng))
            vessels.append(grow_tree(low_root, points[270:540], 0.55, rng))
            carina = anatomy.carina
            trunk = np.concatenate([np.array([root]), points[540:610]])
            bronchi.append(grow_tree(carina, trunk + rng.normal(0, 1.0, trunk.shape), 0.55, rng, 0.6))
        height, depth = anatomy.height, anatomy.half_depth
        tilt = rng.uniform(0.7, 1.0)
        # Oblique fissures fall from back to front; the horizontal one is on the right, in front.
        fissures = (
            (RIGHT, 0.50 * height, tilt * height / (2.6 * depth), 0.0),
            (LEFT, 0.52 * height, tilt * height / (2.6 * depth), 0.0),
            (RIGHT, 0.50 * height, 0.0, 1.0),
        )
        return cls(anatomy, tuple(vessels), tuple(bronchi), fissures)

    def draw(self, z: float, y: NDArray[np.float32], x: NDArray[np.float32]) -> tuple[Volume, Volume, Labels]:
        """Return HU, share of airway and lungs of a plane."""
        anatomy = self.anatomy
        hu, lungs = draw_plane(anatomy, z, y, x)
        if not lungs.any():
            return hu, np.zeros_like(hu), lungs
        inside = lungs > 0
        for side, middle, slope, front in self.fissures:
            distance = np.abs(z - middle - slope * y[:, None])
            thin = np.clip(1.2 - distance / np.sqrt(1 + slope**2), 0, 1) * ((y[:, None] < 0) | (front == 0))
            here = lungs == side
            hu[here] += 130.0 * np.broadcast_to(thin, hu.shape)[here]
        wall = np.maximum.reduce([coverage(tree, z, y, x, widen=0.8) for tree in self.bronchi])
        lumen = np.maximum.reduce([coverage(tree, z, y, x) for tree in self.bronchi])
        blood = np.maximum.reduce([coverage(tree, z, y, x) for tree in self.vessels])
        near = inside | (lumen > 0)
        hu[near] += (0.55 * wall * (30.0 - hu))[near]
        vessel_hu = 40.0 + 0.7 * (anatomy.blood_hu - 40.0)
        hu[inside] += (blood * (vessel_hu - hu))[inside]
        hu[near] += (lumen * (AIR_HU - hu))[near]
        return hu, lumen, lungs


def _points_in_lung(anatomy: Anatomy, side: int, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    axis = np.arange(-160, 161, 4, dtype=np.float32)
    heights = np.arange(4, anatomy.height, 4.0)
    planes = np.stack([draw_plane(anatomy, float(z), axis, axis)[1] == side for z in heights])
    found = np.argwhere(planes)
    chosen = found[rng.choice(len(found), count, replace=False)]
    points = np.stack([heights[chosen[:, 0]], axis[chosen[:, 1]], axis[chosen[:, 2]]], axis=1)
    return points + rng.uniform(-2, 2, points.shape)


def _draw_table(plane: Volume, table_y: float, y: NDArray[np.float32], x: NDArray[np.float32]) -> None:
    sag = y[:, None] - table_y + 0.0011 * x[None, :] ** 2
    outside = (plane < -900) & (np.abs(x[None, :]) < 220)
    plane[outside & (np.abs(sag) < 1.6)] = -250.0
    plane[outside & (sag >= 1.6) & (sag < 28)] = -960.0


def smooth_noise(shape: tuple[int, ...], scale: tuple[float, ...], rng: np.random.Generator) -> Volume:
    """Return noise of mean 0 and deviation 1 with this correlation length in voxels along each axis."""
    small = tuple(max(2, int(np.ceil(side / max(1.0, s)))) for side, s in zip(shape, scale, strict=True))
    coarse = rng.standard_normal(tuple(side + 2 for side in small)).astype(np.float32)
    factors = [side / n for side, n in zip(shape, small, strict=True)]
    fine = ndimage.zoom(coarse, factors, order=1)[tuple(slice(0, side) for side in shape)]
    return ((fine - fine.mean()) / (fine.std() + 1e-6)).astype(np.float32)


def _add_texture(hu: Volume, lungs: Labels, grid: Grid, mimics: Mimics, rng: np.random.Generator) -> None:
    """Give the lungs the uneven density of secondary lobules, and emphysema where there is any."""
    dz, dy, dx = grid.spacing
    air = (lungs > 0) & (hu < -700)
    patches = smooth_noise(grid.shape, (18 / dz, 18 / dy, 18 / dx), rng)
    lobules = smooth_noise(grid.shape, (4 / dz, 4 / dy, 4 / dx), rng)
    hu[air] += (14 * patches + 16 * lobules)[air]
    if mimics.emphysema > 0:
        holes = smooth_noise(grid.shape, (9 / dz, 9 / dy, 9 / dx), rng)
        destroyed = air & (holes > np.quantile(holes[air], 1 - mimics.emphysema))
        hu[destroyed] -= 0.6 * (hu[destroyed] + 985.0)


def _add_mimics(hu: Volume, lungs: Labels, grid: Grid, mimics: Mimics, rng: np.random.Generator) -> None:
    z, y = grid.axis(0), grid.axis(1)
    dz, dy, dx = grid.spacing
    inside = lungs > 0
    if not inside.any():
        return
    if mimics.dependent_hu > 0:
        # Depth below the lung's back: dense where gravity presses it, by patches.
        to_back = ndimage.distance_transform_edt(inside, sampling=(1e6, dy, dx)).astype(np.float32)
        uneven = 1 + 0.35 * smooth_noise(grid.shape, (25 / dz, 12 / dy, 12 / dx), rng)
        back = np.clip((y - 0.35 * y[inside.any(axis=(0, 2))].max()) / 30.0, 0, 1)[None, :, None]
        low = np.clip(1.25 - z / (0.8 * z.max()), 0, 1)[:, None, None]
        added = mimics.dependent_hu * np.exp(-to_back / mimics.dependent_mm) * back * low * uneven
        air = inside & (hu < -500)
        hu[air] += added[air]
    places = np.argwhere(inside)
    for _ in range(mimics.bands):
        _add_plate(hu, inside, grid, places[rng.integers(len(places))], rng)
    for _ in range(mimics.nodules):
        _add_ball(hu, inside, grid, places[rng.integers(len(places))], rng.uniform(2, 6))
    if mimics.scar:
        top = inside & (z > 0.9 * z[inside.any(axis=(1, 2))].max())[:, None, None]
        depth = ndimage.distance_transform_edt(inside, sampling=(dz, dy, dx))
        cap = top & (depth < rng.uniform(2, 6)) & (hu < -500)
        hu[cap] += 0.6 * (30.0 - hu[cap])


def _around(centre: NDArray[np.int64], reach_mm: float, grid: Grid) -> tuple[slice, ...]:
    return tuple(
        slice(max(0, int(c - reach_mm / s) - 1), min(n, int(c + reach_mm / s) + 2))
        for c, s, n in zip(centre, grid.spacing, grid.shape, strict=True)
    )


def _offsets(box: tuple[slice, ...], centre: NDArray[np.int64], grid: Grid) -> list[NDArray[np.float64]]:
    axes = [(np.arange(b.start, b.stop) - c) * s for b, c, s in zip(box, centre, grid.spacing, strict=True)]
    return list(np.meshgrid(*axes, indexing="ij"))


def _add_ball(
    hu: Volume, inside: NDArray[np.bool_], grid: Grid, centre: NDArray[np.int64], radius: float
) -> None:
    box = _around(centre, radius + 3, grid)
    dz, dy, dx = _offsets(box, centre, grid)
    # A slice thicker than the nodule shows it fainter.
    half = max(radius, grid.spacing[0] / 2)
    distance = np.sqrt((dz * radius / half) ** 2 + dy**2 + dx**2)
    share = np.clip(radius - distance + 0.5, 0, 1) * min(1.0, 2 * radius / grid.spacing[0]) * inside[box]
    hu[box] += (share * (40.0 - hu[box])).astype(np.float32)


def _add_plate(
    hu: Volume, inside: NDArray[np.bool_], grid: Grid, centre: NDArray[np.int64], rng: np.random.Generator
) -> None:
    length = rng.uniform(12, 40)
    box = _around(centre, length, grid)
    offsets = np.stack(_offsets(box, centre, grid))
    normal = rng.normal(0, 1, 3) * [1.0, 0.7, 0.5]
    normal /= np.linalg.norm(normal)
    across = np.abs(np.tensordot(normal, offsets, axes=1))
    along = np.linalg.norm(offsets, axis=0)
    thickness = max(rng.uniform(0.8, 2.0), grid.spacing[0] * abs(normal[0]) / 2)
    share = np.clip(thickness - across + 0.5, 0, 1) * (along < length) * rng.uniform(0.4, 0.9) * inside[box]
    hu[box] += np.where(hu[box] < 0, share * (30.0 - hu[box]), 0).astype(np.float32)
