"""Synthetic chests for tests of the lung mask, with the truth beside the voxels.

Shapes are solids in millimetres, LPS: x to the patient's left, y to posterior, z to superior; the origin is
the middle of the body, z = 0 lies below the diaphragm. Each keyword of ``make_chest`` is one property.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

AIR, FAT, TISSUE, BONE, LUNG, GAS, LIVER, CONSOLIDATION, GROUND_GLASS = (
    -1000.0, -90.0, 45.0, 350.0, -850.0, -995.0, 60.0, 40.0, -600.0,
)  # fmt: skip
RIGHT, LEFT = 1, 2

Solid = Callable[[NDArray, NDArray, NDArray], NDArray]
"""Tells which of the positions x, y, z (mm) lie inside."""


@dataclass(frozen=True, eq=False)
class Chest:
    """A canonical volume [X, Y, Z] and what is where in it.

    ``lungs`` is the truth with opacities counted as lung: 1 right, 2 left; ``opacities`` lie in them.
    """

    hu: NDArray[np.float32]
    affine: NDArray[np.float64]
    lungs: NDArray[np.uint8]
    opacities: NDArray[np.bool_]
    airways: NDArray[np.bool_]
    gas: NDArray[np.bool_]

    @property
    def voxel_ml(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def ml(self, mask: NDArray) -> float:
        return float(np.count_nonzero(mask)) * self.voxel_ml


def ball(x: float, y: float, z: float, radius: float) -> Solid:
    return ellipsoid(x, y, z, radius, radius, radius)


def ellipsoid(x: float, y: float, z: float, rx: float, ry: float, rz: float) -> Solid:
    return lambda px, py, pz: ((px - x) / rx) ** 2 + ((py - y) / ry) ** 2 + ((pz - z) / rz) ** 2 <= 1.0


def box(x: Sequence[float], y: Sequence[float], z: Sequence[float]) -> Solid:
    return lambda px, py, pz: (
        (px >= x[0]) & (px <= x[1]) & (py >= y[0]) & (py <= y[1]) & (pz >= z[0]) & (pz <= z[1])
    )


def _tube(start: Sequence[float], end: Sequence[float], radius: float) -> Solid:
    a, b = np.asarray(start, float), np.asarray(end, float)
    axis = b - a

    def inside(px: NDArray, py: NDArray, pz: NDArray) -> NDArray:
        along = ((px - a[0]) * axis[0] + (py - a[1]) * axis[1] + (pz - a[2]) * axis[2]) / axis.dot(axis)
        along = np.clip(along, 0.0, 1.0)
        off = [p - (a[i] + along * axis[i]) for i, p in enumerate((px, py, pz))]
        return off[0] ** 2 + off[1] ** 2 + off[2] ** 2 <= radius**2

    return inside


def _lung(side: int) -> Solid:
    centre, half = (-74.0, 58.0) if side == RIGHT else (76.0, 54.0)

    def inside(px: NDArray, py: NDArray, pz: NDArray) -> NDArray:
        # Straight sides below, a rounded apex above; the base follows the diaphragm.
        narrowing = np.clip((pz - 160.0) / 105.0, 0.0, 1.0)
        size = np.sqrt(np.clip(1.0 - narrowing**2, 0.0, 1.0)) + 1e-6
        plane = ((px - centre) / (half * size)) ** 2 + (py / (84.0 * size)) ** 2 <= 1.0
        dome = ellipsoid(centre, -8.0, 20.0, 64.0, 84.0, 85.0 if side == RIGHT else 70.0)
        return plane & (pz >= 20.0) & (pz < 265.0) & ~dome(px, py, pz)

    return inside


HEART = ellipsoid(22.0, -30.0, 105.0, 62.0, 42.0, 58.0)
AIRWAYS = (
    _tube((0.0, 12.0, 175.0), (0.0, 2.0, 400.0), 9.0),
    _tube((0.0, 12.0, 175.0), (-42.0, 12.0, 140.0), 6.5),
    _tube((0.0, 12.0, 175.0), (42.0, 12.0, 140.0), 6.0),
)
STOMACH = ellipsoid(70.0, -45.0, 30.0, 34.0, 22.0, 22.0)
TABLE = (
    (lambda px, py, pz: (np.abs(px) < 170) & (np.abs(py - 124.0) < 4.0) & (pz > -1e9), 120.0),
    (lambda px, py, pz: (np.abs(px) < 165) & (np.abs(py - 124.0) < 2.0) & (pz > -1e9), -900.0),
)
HEPATIC_FLEXURE = ellipsoid(-80.0, -40.0, 25.0, 25.0, 18.0, 20.0)


def _ribs(
    lungs: NDArray[np.uint8], spacing: tuple[float, float, float], draw: Callable[[Solid], NDArray]
) -> NDArray[np.bool_]:
    """Return oblique ribs 3 to 11 mm outside of the lungs, none towards the heart and the diaphragm."""
    cavity = np.asarray(draw(lambda px, py, pz: (px / 132) ** 2 + (py / 86) ** 2 <= 1 + 0 * pz))
    cavity = cavity | (lungs > 0)
    distance = np.stack(
        [
            ndimage.distance_transform_edt(~cavity[:, :, k], sampling=spacing[:2])
            for k in range(cavity.shape[2])
        ],
        axis=2,
    )
    bands = draw(lambda px, py, pz: ((pz + 0.4 * py + 0.2 * np.abs(px)) % 28.0 < 12.0) & (pz < 285.0))
    lateral = draw(lambda px, py, pz: (np.abs(px) > 45.0) | (py > 0.0) | (pz < -1e9))
    return (distance > 3.0) & (distance < 11.0) & bands & lateral


def make_chest(
    *,
    spacing: tuple[float, float, float] = (2.0, 2.0, 5.0),
    extent: tuple[float, float, float] = (380.0, 280.0, 320.0),
    bottom: float = -20.0,
    consolidations: Sequence[Solid] = (),
    ground_glass: Sequence[Solid] = (),
    lung_hu: float = LUNG,
    joined: bool = False,
    without_lung: int | None = None,
    bowel_gas: bool = True,
    table: bool = True,
    airways: bool = True,
    shift: tuple[float, float] = (0.0, 0.0),
    noise: float = 15.0,
) -> Chest:
    """Return a chest.

    Parameters
    ----------
    spacing, extent : tuple of float
        Of the grid, mm; ``extent`` is centred on the body in x and y.
    bottom : float
        Height of the lowest slice.
    consolidations, ground_glass : sequence of Solid
        Opacities; only their part inside the lungs is drawn.
    lung_hu : float
        Of aerated lung.
    joined : bool
        Let the lungs touch in front of the heart, as they do in emphysema.
    without_lung : int, optional
        Side that is filled with tissue.
    shift : (float, float)
        Of the body in the field of view; large ones cut it off.
    """
    counts = [max(1, round(e / s)) for e, s in zip(extent, spacing, strict=True)]
    first = np.array([-extent[0] / 2.0, -extent[1] / 2.0, bottom]) - [*shift, 0.0]
    x, y, z = (
        (first[axis] + spacing[axis] * np.arange(counts[axis])).reshape(
            [-1 if a == axis else 1 for a in range(3)]
        )
        for axis in range(3)
    )
    shape = tuple(counts)

    def draw(solid: Solid) -> NDArray[np.bool_]:
        return np.broadcast_to(solid(x, y, z), shape)

    hu = np.full(shape, AIR, dtype=np.float32)
    hu[draw(lambda px, py, pz: (px / 172) ** 2 + (py / 112) ** 2 <= 1 + 0 * pz)] = FAT
    hu[draw(lambda px, py, pz: (px / 160) ** 2 + (py / 102) ** 2 <= 1 + 0 * pz)] = TISSUE
    lungs = np.zeros(shape, dtype=np.uint8)
    for side in (RIGHT, LEFT):
        if side != without_lung:
            lungs[draw(_lung(side)) & ~draw(HEART)] = side
    for side in (RIGHT, LEFT) if joined else ():
        half = (-30.0, -0.01) if side == RIGHT else (0.0, 30.0)
        lungs[draw(box(half, (-72.0, -62.0), (160.0, 225.0))) & (lungs == 0)] = side
    hu[lungs > 0] = lung_hu
    for solid, value in (
        (_tube((0.0, 72.0, -100.0), (0.0, 72.0, 500.0), 20.0), BONE),
        (_tube((24.0, 48.0, -100.0), (24.0, 48.0, 190.0), 12.0), TISSUE),
    ):
        drawn = draw(solid)
        hu[drawn], lungs[drawn] = value, 0
    hu[_ribs(lungs, spacing, draw) & (lungs == 0)] = BONE
    opacities = np.zeros(shape, dtype=bool)
    for solids, value in ((ground_glass, GROUND_GLASS), (consolidations, CONSOLIDATION)):
        for solid in solids:
            drawn = draw(solid) & (lungs > 0)
            hu[drawn] = value
            opacities |= drawn
    tubes = np.zeros(shape, dtype=bool)
    for solid in AIRWAYS if airways else ():
        tubes |= draw(solid) & (lungs == 0) & (hu > -200.0)
    hu[tubes] = GAS
    gas = (draw(STOMACH) | draw(HEPATIC_FLEXURE)) & (lungs == 0) & bowel_gas
    hu[gas] = -985.0
    for solid, value in TABLE if table else ():
        hu[draw(solid)] = value
    hu += np.random.default_rng(3).normal(0.0, noise, shape).astype(np.float32)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = [-first[0], -first[1], first[2]]
    return Chest(hu, affine, lungs, opacities, tubes, gas)
