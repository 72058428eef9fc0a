"""Where lesions of each class lie, how many, how large and of which pattern.

COVID-19: both lungs, peripheral, basal and posterior, several rounded ground-glass opacities, later crazy
paving and consolidation (Bernheim et al. 2020, Radiology 295:200463; Shi et al. 2020, Lancet Infect Dis
20:425; the review of Salehi et al. 2020, doi 10.2214/AJR.20.23034; Bai et al. 2020, Radiology 296:E46:
peripheral in 80 % against 57 %, ground glass in 91 % against 68 % of other viral pneumonias). Common
pneumonia: lobar or segmental consolidation, often of one lung, or patches along bronchi (Franquet 2018,
doi 10.1097/RTI.0000000000000347; Nambu et al. 2014, World J Radiol 6:779). Numbers and sizes on a
slice follow Figure 2 of the paper: mostly fewer than five of a type, GGO below 2 % and consolidation below
1 % of the slice, with a tail of large ones. Shares and ranges in numbers are this project's choice; the
papers give only how often a finding was seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.synthesis.grids import Grid, Labels
from covid_ct_mask_net.training.synthesis.lesions import Lesion, Pattern

_COARSE_MM = 4.0


@dataclass(frozen=True, eq=False)
class LungMap:
    """Voxels of the lungs with what decides whether a lesion is likely there.

    Attributes
    ----------
    voxels
        (n, 3) as (z, y, x).
    side
        (n,) 1 right, 2 left.
    pleura_mm, root_mm
        (n,) distance to the edge of the lung and to its root.
    height, back
        (n,) 0 at the base to 1 at the apex; 0 in front to 1 behind.
    """

    voxels: NDArray[np.int64]
    side: NDArray[np.uint8]
    pleura_mm: NDArray[np.float64]
    root_mm: NDArray[np.float64]
    height: NDArray[np.float64]
    back: NDArray[np.float64]


def map_lungs(
    lungs: Labels, grid: Grid, roots: dict[int, tuple[float, float, float]] | None = None
) -> LungMap:
    """Return the map of a lung volume, on a grid of about 4 mm.

    Parameters
    ----------
    lungs : uint8 [Z, Y, X]
    grid : Grid
    roots : dict, optional
        Where bronchi enter each lung in mm; by default a point at half height, nearest to the midline.
    """
    steps = tuple(max(1, round(_COARSE_MM / s)) for s in grid.spacing)
    coarse = lungs[:: steps[0], :: steps[1], :: steps[2]]
    sampling = tuple(n * s for n, s in zip(steps, grid.spacing, strict=True))
    depth = ndimage.distance_transform_edt(np.pad(coarse > 0, 1), sampling=sampling)[1:-1, 1:-1, 1:-1]
    found = np.argwhere(coarse > 0)
    side = coarse[tuple(found.T)]
    voxels = found * steps
    places = np.asarray(grid.origin) + voxels * np.asarray(grid.spacing)
    root_mm = np.zeros(len(found))
    for label in (1, 2):
        here = side == label
        if here.any():
            root = (roots or {}).get(label) or _root(places[here], lungs.shape, grid)
            root_mm[here] = np.linalg.norm(places[here] - np.asarray(root), axis=1)
    low, high = places.min(axis=0), places.max(axis=0)
    share = (places - low) / np.maximum(high - low, 1e-6)
    return LungMap(voxels, side, depth[tuple(found.T)], root_mm, share[:, 0], share[:, 1])


def _root(places: NDArray[np.float64], shape: tuple[int, ...], grid: Grid) -> tuple[float, float, float]:
    middle_x = grid.origin[2] + grid.spacing[2] * (shape[2] - 1) / 2
    z, y = np.median(places[:, 0]), np.median(places[:, 1])
    x = places[np.argmin(np.abs(places[:, 2] - middle_x)), 2]
    return float(z), float(y), float(x)


def draw_lesions(
    slice_class: SliceClass, lungs: LungMap, rng: np.random.Generator, severity: float | None = None
) -> list[Lesion]:
    """Return the lesions of a patient of a class.

    Parameters
    ----------
    slice_class : SliceClass
    lungs : LungMap
    rng : numpy Generator
    severity : float, optional
        0 mild to 1 severe; drawn if not given, mild more often.
    """
    if slice_class is SliceClass.CONTROL:
        return []
    severe = float(rng.beta(1.2, 1.8)) if severity is None else severity
    if slice_class is SliceClass.COVID_19:
        return _covid(lungs, rng, severe)
    return _lobar(lungs, rng, severe) if rng.random() < 0.6 else _bronchial(lungs, rng, severe)


def _covid(lungs: LungMap, rng: np.random.Generator, severe: float) -> list[Lesion]:
    count = 3 + rng.poisson(3 + 9 * severe)
    centres = _places(lungs, _peripheral(lungs), count, rng, both_sides=True)
    shares = np.array([0.46 - 0.2 * severe, 0.20, 0.24 + 0.12 * severe, 0.10 + 0.08 * severe])
    kinds = tuple(Pattern)
    patterns = [kinds[k] for k in rng.choice(len(kinds), count, p=shares / shares.sum())]
    lesions = []
    for centre, pattern in zip(centres, patterns, strict=True):
        radius = float(np.clip(rng.lognormal(np.log(9 + 11 * severe), 0.45), 5, 48))
        if pattern is Pattern.CONSOLIDATION:
            radius *= 0.6
        radii = _radii(radius, 0.22, rng, flat=rng.random() < 0.2)
        lesions.append(_opacity(centre, radii, pattern, rng.uniform(0.3, 1.0), rng))
    return lesions + confluent(lungs, rng, int(rng.poisson(2.5 * max(0.0, severe - 0.45) / 0.55)))


def confluent(lungs: LungMap, rng: np.random.Generator, count: int) -> list[Lesion]:
    """Return opacities that fill much of a lobe or a lung and spare parts of it, as in severe disease."""
    if count == 0:
        return []
    kinds = tuple(Pattern)
    lesions = []
    for centre in _places(lungs, _peripheral(lungs) + 0.05, count, rng):
        pattern = kinds[int(rng.choice(len(kinds), p=(0.42, 0.26, 0.20, 0.12)))]
        radii = _radii(rng.uniform(32, 95), 0.22, rng)
        lesions.append(_opacity(centre, radii, pattern, rng.uniform(0.6, 1.7), rng))
    return lesions


def _peripheral(lungs: LungMap) -> NDArray[np.float64]:
    """Return the weight of places: near the pleura, at the base, behind."""
    return np.exp(-lungs.pleura_mm / 11.0) * np.exp(-1.6 * lungs.height) * (0.35 + lungs.back) ** 1.5


def _opacity(
    centre: tuple[int, int, int],
    radii: tuple[float, float, float],
    pattern: Pattern,
    ragged: float,
    rng: np.random.Generator,
) -> Lesion:
    paving = pattern is Pattern.CRAZY_PAVING
    return Lesion(
        centre=centre,
        radii=radii,
        pattern=pattern,
        filling=rng.uniform(0.25, 0.60) if paving else rng.uniform(0.14, 0.44),
        core=rng.uniform(0.3, 0.8),
        ragged=ragged,
        edge_mm=rng.uniform(2, 7),
        density=_density(rng),
        turn=rng.uniform(0, np.pi),
    )


def _lobar(lungs: LungMap, rng: np.random.Generator, severe: float) -> list[Lesion]:
    """One lobe or segment, consolidated, with a little ground glass at its edge."""
    count = 1 + int(rng.random() < 0.35) + int(rng.random() < 0.4 * severe)
    centre = _places(lungs, 0.4 + np.exp(-lungs.pleura_mm / 25.0), 1, rng)[0]
    near = np.linalg.norm((lungs.voxels - centre) * np.array([1.0, 0.7, 0.7]), axis=1)
    centres = [centre, *_places(lungs, np.exp(-near / 40.0) + 0.003, count - 1, rng)]
    lesions = []
    for index, place in enumerate(centres):
        radius = rng.uniform(16, 26 + 26 * severe) if index == 0 else rng.uniform(6, 16)
        lesions.append(
            Lesion(
                centre=place,
                radii=_radii(radius, 0.3, rng),
                pattern=Pattern.CONSOLIDATION if rng.random() < 0.45 else Pattern.MIXED,
                filling=rng.uniform(0.25, 0.5),
                core=rng.uniform(0.75, 1.0),
                ragged=rng.uniform(0.5, 1.1),
                edge_mm=rng.uniform(1.5, 5),
                density=_density(rng),
                turn=rng.uniform(0, np.pi),
            )
        )
    return lesions


def _bronchial(lungs: LungMap, rng: np.random.Generator, severe: float) -> list[Lesion]:
    """Patches along the bronchi of one lung, sometimes of both, small and dense."""
    count = 3 + rng.poisson(2 + 4 * severe)
    weight = np.exp(-lungs.root_mm / 45.0) * np.clip(lungs.pleura_mm / 15.0, 0.15, 1.0)
    if rng.random() < 0.65:
        weight = weight * (lungs.side == rng.integers(1, 3))
    return [
        Lesion(
            centre=centre,
            radii=_radii(rng.uniform(5, 12 + 6 * severe), 0.3, rng),
            pattern=Pattern.CONSOLIDATION if rng.random() < 0.5 else Pattern.MIXED,
            filling=rng.uniform(0.2, 0.45),
            core=rng.uniform(0.55, 1.0),
            ragged=rng.uniform(0.6, 1.1),
            edge_mm=rng.uniform(2, 6),
            density=_density(rng),
            turn=rng.uniform(0, np.pi),
        )
        for centre in _places(lungs, weight, count, rng)
    ]


def _places(
    lungs: LungMap,
    weight: NDArray[np.float64],
    count: int,
    rng: np.random.Generator,
    both_sides: bool = False,
) -> list[tuple[int, int, int]]:
    """Return voxels drawn by weight; on both sides, at least one in each lung that has any."""
    sides = [int(s) for s in (1, 2) if weight[lungs.side == s].sum() > 0] if both_sides else []
    chosen: list[int] = []
    for number in range(count):
        here = weight * (lungs.side == sides[number]) if number < len(sides) else weight
        chosen.append(int(rng.choice(len(weight), p=here / here.sum())))
    return [(int(z), int(y), int(x)) for z, y, x in lungs.voxels[chosen]]


def _radii(
    radius: float, spread: float, rng: np.random.Generator, flat: bool = False
) -> tuple[float, float, float]:
    """Return radii about ``radius``; flat ones are bands in the axial plane, as of organising pneumonia."""
    z, y, x = radius * rng.lognormal(0, spread, 3)
    if flat:
        y, x = 1.4 * y, max(3.0, 0.3 * x)
    return float(z), float(y), float(x)


def _density(rng: np.random.Generator) -> float:
    """Return how much air consolidation has lost: all of it, or nearly so in half of the lesions."""
    return float(rng.uniform(0.85, 0.98) if rng.random() < 0.5 else rng.uniform(0.55, 0.85))
