"""One person's chest: sizes drawn at random, and any axial plane of it in Hounsfield units.

The chest is a set of solids (superellipses, ellipsoids, tubes) in mm, LPS axes, z = 0 at the lowest point of
the lungs. Sizes are this project's choice of what adults have at full inspiration; lungs come out at 3 to 7
litres (healthy ones on supine CT: 4.1 with a deviation of 1.2, doi 10.1186/cc12738). Attenuations are
textbook values. It is drawn plane by plane, so that thick slices are means of
thin planes and show partial volume at domes, vessels and fissures as scanners do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.training.synthesis.grids import Labels, Mask, Volume

RIGHT, LEFT = 1, 2
AIR_HU, FAT_HU, MUSCLE_HU = -1000.0, -100.0, 50.0
_POWER = 2.3


@dataclass(frozen=True)
class Anatomy:
    """Measures of one chest; lengths in mm, attenuations in HU.

    Attributes
    ----------
    height, half_width, half_depth
        Of the space inside the ribs that the lungs fill.
    wall
        Fat outside the ribs.
    dome
        Height of the right diaphragm over the lowest point of the lungs; the left is lower.
    heart
        Relative size of the heart.
    lung_hu, gradient_hu
        Attenuation of lung in the middle, and how much denser its most dependent part is.
    blood_hu
        Of vessels and heart: about 45 without, up to 300 with contrast medium.
    mediastinum
        Half width of the mediastinum.
    gas
        Whether the stomach holds gas.
    rib_pitch, rib_phase
        Distance of ribs, and where the first is.
    """

    height: float
    half_width: float
    half_depth: float
    wall: float
    dome: float
    heart: float
    lung_hu: float
    gradient_hu: float
    blood_hu: float
    mediastinum: float
    gas: bool
    rib_pitch: float
    rib_phase: float

    @property
    def hilum(self) -> dict[int, tuple[float, float, float]]:
        """Where vessels and bronchi enter each lung, (z, y, x)."""
        z = 0.54 * self.height
        return {RIGHT: (z, 8.0, -38.0), LEFT: (z + 8.0, 10.0, 40.0)}

    @property
    def carina(self) -> tuple[float, float, float]:
        """Where the trachea divides, (z, y, x)."""
        return 0.62 * self.height, 0.12 * self.half_depth, -2.0

    @property
    def body_half_width(self) -> float:
        """Half width of the body at its widest, arms raised."""
        return self.half_width + self.wall + 26.0


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Return a random adult chest."""
    scale = rng.uniform(0.88, 1.12)
    contrast = rng.random() < 0.4
    return Anatomy(
        height=scale * rng.uniform(215, 265),
        half_width=scale * rng.uniform(124, 146),
        half_depth=scale * rng.uniform(86, 106),
        wall=rng.uniform(8, 32),
        dome=rng.uniform(45, 80),
        heart=rng.uniform(0.85, 1.2),
        lung_hu=rng.uniform(-890, -815),
        gradient_hu=rng.uniform(30, 130),
        blood_hu=rng.uniform(120, 300) if contrast else rng.uniform(35, 55),
        mediastinum=rng.uniform(21, 30),
        gas=bool(rng.random() < 0.7),
        rib_pitch=rng.uniform(24, 30),
        rib_phase=rng.uniform(0, 1),
    )


class _Plane(NamedTuple):
    """One axial plane: height and positions of its rows and columns in mm, and where the ribs' inside is."""

    z: float
    yy: NDArray[np.float32]
    xx: NDArray[np.float32]
    cavity: NDArray[np.float32]


def draw_plane(
    anatomy: Anatomy, z: float, y: NDArray[np.float32], x: NDArray[np.float32]
) -> tuple[Volume, Labels]:
    """Return one axial plane without vessels of the lung, airways and lesions.

    Parameters
    ----------
    anatomy : Anatomy
    z : float
        Height of the plane in mm.
    y, x : NDArray
        Positions of rows and columns in mm.

    Returns
    -------
    hu : float32 (rows, columns)
    lungs : uint8 (rows, columns)
        0, 1 right lung, 2 left lung, blood vessels in the lungs included.
    """
    yy, xx = y[:, None], x[None, :]
    plane = _Plane(z, yy, xx, _radius(anatomy, z, yy, xx))
    hu = _body(anatomy, plane)
    _draw_bones(hu, anatomy, plane)
    lungs = _lungs(anatomy, plane)
    _draw_mediastinum(hu, anatomy, plane, lungs)
    _draw_abdomen(hu, anatomy, plane, lungs)
    inside = lungs > 0
    dependent = np.broadcast_to(yy / anatomy.half_depth, hu.shape)[inside]
    hu[inside] = anatomy.lung_hu + anatomy.gradient_hu * dependent
    return hu, lungs


def _profile(anatomy: Anatomy, z: float) -> tuple[float, float]:
    """Return half width and half depth of the space inside the ribs at a height."""
    t = min(max(z / anatomy.height, 0.0), 1.0)
    narrow = max(0.0, (t - 0.35) / 0.68)
    # The width shrinks to a dome at the apex; the depth keeps longer.
    return (
        anatomy.half_width * float(np.sqrt(1 - 0.94 * narrow**2.2)),
        anatomy.half_depth * float(np.sqrt(1 - 0.80 * narrow**2.6)),
    )


def _radius(
    anatomy: Anatomy, z: float, yy: NDArray[np.float32], xx: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the superelliptic radius of each pixel: below 1 inside the ribs."""
    width, depth = _profile(anatomy, z)
    power = np.abs(xx / width) ** _POWER + np.abs(yy / depth) ** _POWER
    # exp(log / p) is several times faster than ** of an array.
    radius: NDArray[np.float32] = np.exp(np.log(power + 1e-6) / _POWER).astype(np.float32)
    return radius


def _body(anatomy: Anatomy, plane: _Plane) -> Volume:
    """Return skin, fat and the muscles around the ribs, the inside filled with soft tissue."""
    z, yy, xx, cavity = plane
    t = z / anatomy.height
    shoulders = 1 + 0.35 * max(0.0, t - 0.75)
    width = anatomy.body_half_width * shoulders
    depth = anatomy.half_depth + 0.75 * anatomy.wall + 24.0
    outline = np.abs(xx / width) ** 2.4 + np.abs(yy / depth) ** 2.4
    body = outline < 1
    hu = np.full(cavity.shape, AIR_HU, dtype=np.float32)
    hu[body] = FAT_HU
    hu[body & (outline > 0.965)] = 20.0
    wall_mm = (cavity - 1) * np.sqrt(np.prod(_profile(anatomy, z)))
    # Muscles lie on the ribs; they are thicker at the shoulders and beside the spine.
    thickness = 14.0 + 14.0 * max(0.0, t - 0.6) + 12.0 * np.clip(yy / anatomy.half_depth, 0, 1)
    hu[body & (wall_mm < thickness)] = MUSCLE_HU
    return hu


def _draw_bones(hu: Volume, anatomy: Anatomy, plane: _Plane) -> None:
    z, yy, xx, cavity = plane
    width, depth = _profile(anatomy, z)
    wall_mm = (cavity - 1) * np.sqrt(width * depth)
    # Ribs descend to the front, so that a plane cuts each of them obliquely.
    phase = ((z - 0.5 * yy) / anatomy.rib_pitch + anatomy.rib_phase) % 1.0
    rib = (wall_mm > 2.5) & (wall_mm < 10.0) & (phase < 0.42) & (np.abs(xx) > 22)
    core = rib & (wall_mm > 4.0) & (wall_mm < 8.5) & (phase > 0.06) & (phase < 0.36)
    front = yy < -0.72 * depth
    hu[rib] = 480.0
    hu[core] = 180.0
    hu[rib & front] = 120.0  # cartilage
    sternum = (np.abs(xx) < 17) & (np.abs(yy + depth + 7) < 5.5) & (z > 0.3 * anatomy.height)
    hu[sternum] = 260.0
    if z > 0.55 * anatomy.height:
        blade = (wall_mm > 22) & (wall_mm < 26) & (yy > 0.05 * depth) & (np.abs(xx) > 0.5 * width)
        hu[blade] = 420.0
    _draw_spine(hu, anatomy, z, yy, xx)


def _spine_y(anatomy: Anatomy) -> float:
    return 0.70 * anatomy.half_depth


def _draw_spine(
    hu: Volume, anatomy: Anatomy, z: float, yy: NDArray[np.float32], xx: NDArray[np.float32]
) -> None:
    middle = _spine_y(anatomy)
    around = np.hypot(xx / 19.0, (yy - middle) / 16.0)
    level = (z / 25.0) % 1.0
    if level < 0.2:
        hu[around < 1] = 90.0  # disc
    else:
        hu[around < 1] = 450.0
        hu[around < 0.86] = 190.0
        transverse = (np.abs(yy - middle - 24) < 5) & (np.abs(xx) < 32) & (level < 0.55)
        hu[transverse] = 350.0
    back = np.hypot(xx / 13.0, (yy - middle - 26) / 12.0)
    hu[(back < 1) & (back > 0.72)] = 420.0
    hu[back <= 0.72] = 25.0
    hu[(np.abs(xx) < 3.5) & (yy > middle + 37) & (yy < middle + 58) & (level < 0.6)] = 350.0


def _lungs(anatomy: Anatomy, plane: _Plane) -> Labels:
    """Return what is neither mediastinum, heart, spine nor below the diaphragm, by side."""
    z, yy, xx, cavity = plane
    lungs = np.zeros(cavity.shape, dtype=np.uint8)
    if not 0 < z < anatomy.height:
        return lungs
    inside = (cavity < 0.985) & ~_mediastinum(anatomy, z, yy, xx)
    inside &= np.hypot(xx / 24.0, (yy - _spine_y(anatomy)) / 21.0) > 1
    inside &= _heart(anatomy, z, yy, xx) > 1
    inside &= z > _diaphragm(anatomy, yy, xx)
    lungs[inside] = np.where(np.broadcast_to(xx, inside.shape)[inside] < 0, RIGHT, LEFT)
    return lungs


def _mediastinum(anatomy: Anatomy, z: float, yy: NDArray[np.float32], xx: NDArray[np.float32]) -> Mask:
    t = z / anatomy.height
    waist = anatomy.mediastinum * (1.0 + 0.25 * max(0.0, t - 0.7) / 0.3)
    width = waist * (0.25 + 0.75 * np.exp(-((yy / (0.62 * anatomy.half_depth)) ** 4)))
    mask: Mask = np.abs(xx - 3.0) < width
    return mask


def _heart(
    anatomy: Anatomy, z: float, yy: NDArray[np.float32], xx: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the ellipsoidal radius about the heart, its long axis to the left front."""
    size = anatomy.heart
    dx, dy = xx - 16.0, yy + 0.30 * anatomy.half_depth
    along, across = 0.9 * dx - 0.43 * dy, 0.43 * dx + 0.9 * dy
    dz = (z - 0.25 * anatomy.height) / (0.23 * anatomy.height * size)
    radius = np.sqrt((along / (60 * size)) ** 2 + (across / (43 * size)) ** 2 + dz**2)
    return radius.astype(np.float32)


def _diaphragm(anatomy: Anatomy, yy: NDArray[np.float32], xx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the height of the diaphragm under each pixel: two domes, the left one lower."""
    half = 0.52 * anatomy.half_width
    height = np.where(xx < 0, anatomy.dome, anatomy.dome - 12.0)
    centred = np.abs(xx) - half
    slope = (centred / (1.06 * half)) ** 2 + ((yy + 8) / (1.02 * anatomy.half_depth)) ** 2
    return (height * np.sqrt(np.clip(1 - slope, 0, None))).astype(np.float32)


def _draw_mediastinum(hu: Volume, anatomy: Anatomy, plane: _Plane, lungs: Labels) -> None:
    z, yy, xx, cavity = plane
    t = z / anatomy.height
    depth = anatomy.half_depth
    inner = (cavity < 0.97) & (lungs == 0)
    hu[inner & (np.abs(xx) < 45) & (yy < 0.5 * depth) & (np.hypot(xx, yy) < depth)] = -20.0
    blood = anatomy.blood_hu
    heart = _heart(anatomy, z, yy, xx)
    hu[heart < 1] = 45.0
    hu[heart < 0.82] = blood
    tubes = [(16.0, 0.42 * depth, 12.0, t < 0.78)]  # descending aorta
    tubes += [(-12.0, -0.22 * depth, 15.0, 0.42 < t < 0.78), (-30.0, -0.16 * depth, 8.5, 0.45 < t < 0.95)]
    tubes += [(12.0, -0.30 * depth, 14.0, 0.42 < t < 0.62)]
    for centre_x, centre_y, radius, here in tubes:
        if here:
            hu[np.hypot(xx - centre_x, yy - centre_y) < radius] = blood
    if 0.73 < t < 0.80:  # arch
        hu[np.hypot((xx - 2 - 0.15 * yy) / 11.0, (yy - 0.1 * depth) / (0.38 * depth)) < 1] = blood
    if 0.52 < t < 0.60:  # pulmonary arteries
        hu[(np.abs(xx) < 36) & (np.abs(yy + 0.02 * depth) < 9) & inner] = blood
    hu[np.hypot(xx - 9, yy - 0.36 * depth) < 6] = 35.0  # oesophagus
    carina_z, carina_y, carina_x = anatomy.carina
    if z > carina_z:
        around = np.hypot((xx - carina_x) / 9.0, (yy - carina_y) / 8.0)
        hu[around < 1.25] = 40.0
        hu[around < 1] = AIR_HU


def _draw_abdomen(hu: Volume, anatomy: Anatomy, plane: _Plane, lungs: Labels) -> None:
    z, yy, xx, cavity = plane
    below = (cavity < 0.97) & (z < _diaphragm(anatomy, yy, xx)) & (lungs == 0)
    below &= (_heart(anatomy, z, yy, xx) > 1) & (np.hypot(xx / 24, (yy - _spine_y(anatomy)) / 21) > 1)
    hu[below] = -80.0
    hu[below & (xx < 20)] = 60.0 if anatomy.blood_hu < 100 else 105.0  # liver
    hu[below & (np.hypot((xx - 85) / 38, (yy - 40) / 32) < 1)] = 50.0 if anatomy.blood_hu < 100 else 110.0
    stomach = below & (np.hypot((xx - 58) / 34, (yy + 25) / 30) < 1)
    hu[stomach] = 20.0
    if anatomy.gas and z < anatomy.dome - 24.0:
        # Gas rises to the front of the stomach of a supine patient.
        hu[stomach & (yy < -22) & (np.hypot((xx - 58) / 30, (yy + 25) / 26) < 1)] = -985.0
