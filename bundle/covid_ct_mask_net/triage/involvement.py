"""How much of the lungs is affected, in ml and per cent: in all, by side, and by third of each lung."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.geometry import CanonicalGrid, voxel_volume_ml
from covid_ct_mask_net.labels import LesionClass, Zone
from covid_ct_mask_net.results import Involvement, RegionInvolvement
from covid_ct_mask_net.triage.regions import SIDE_VALUES, LungRegions


def measure_involvement(
    regions: LungRegions,
    lesions: NDArray[np.uint8],
    grid: CanonicalGrid,
    weights: Mapping[int, int] | None = None,
) -> Involvement:
    """Return lung and lesion volumes.

    Lesion voxels count as lung: consolidation is lung tissue, whether or not the lung mask reached it.

    Parameters
    ----------
    regions : LungRegions
        The lungs.
    lesions : NDArray
        uint8 [X, Y, Z]: 1 ground-glass opacity, 2 consolidation, of accepted lesions.
    grid : CanonicalGrid
        Of the volume.
    weights : mapping, optional
        How many slices the lesions of a slice stand for; 1 where not named. Lungs are known on all slices.
    """
    voxel_ml = voxel_volume_ml(grid.affine)
    # Counts by slice, side (0 to 2) and lesion class (0 to 2) answer every question below.
    counts = np.stack(
        [_counts(regions, index, plane) for index, plane in enumerate(lesions.transpose(2, 1, 0))]
    )
    for index, weight in (weights or {}).items():
        # Lung that lesions take on the slices this one stands for, as far as there is any.
        seen = counts[index, :, 1:].copy()
        counts[index, :, 1:] *= weight
        counts[index, :, 0] -= (weight - 1) * seen.sum(axis=1)
    return Involvement(
        total=_region(counts[:, 1:].sum(axis=(0, 1)), voxel_ml),
        sides={side: _region(counts[:, value].sum(axis=0), voxel_ml) for side, value in SIDE_VALUES.items()},
        zones={
            side: {
                zone: _region(
                    counts[regions.zone_slices(side, zone), SIDE_VALUES[side]].sum(axis=0), voxel_ml
                )
                for zone in Zone
            }
            for side in regions.sides
        },
    )


def _counts(regions: LungRegions, index: int, lesions: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the voxels of the lungs and lesions of one slice [Y, X] by side and lesion class."""
    lungs = regions.lungs[:, :, index].T
    counts = np.zeros((1 + len(SIDE_VALUES), 1 + len(LesionClass)), dtype=np.int64)
    for value in SIDE_VALUES.values():
        counts[value, 0] = np.count_nonzero(lungs == value)
    # Most slices have no lesion, and to see that takes less time than to look for the places of some.
    if lesions.any():
        rows, columns = np.nonzero(lesions)
        sides = regions.side_values(np.column_stack([columns, rows, np.full(len(rows), index)]))
        counts[1:, 0] -= np.bincount(lungs[rows, columns], minlength=len(counts))[1:]
        np.add.at(counts, (sides, lesions[rows, columns]), 1)
    return counts


def _region(counts: NDArray[np.int64], voxel_ml: float) -> RegionInvolvement:
    """Return one region from its voxel counts of no lesion, ground-glass opacity, consolidation."""
    opacity = float(counts[LesionClass.GROUND_GLASS_OPACITY] * voxel_ml)
    consolidation = float(counts[LesionClass.CONSOLIDATION] * voxel_ml)
    lung = float(counts.sum() * voxel_ml)
    lesion = opacity + consolidation
    return RegionInvolvement(
        lung_ml=round(lung, 3),
        ground_glass_opacity_ml=round(opacity, 3),
        consolidation_ml=round(consolidation, 3),
        lesion_ml=round(lesion, 3),
        percent=min(round(100.0 * lesion / lung, 3), 100.0) if lung else 0.0,
    )
