"""What was found in a volume, as the writers of reports need it: pixels, lungs, lesions and their slices."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.app.outlines import SliceOutline, outline_lesions
from covid_ct_mask_net.app.volume import SourceVolume
from covid_ct_mask_net.geometry import CanonicalGrid
from covid_ct_mask_net.postprocessing import canonical_grid
from covid_ct_mask_net.reduction import FULL_GRID, FullGrid
from covid_ct_mask_net.results import LesionReport, StudyResult
from covid_ct_mask_net.transforms.orientation import source_view
from covid_ct_mask_net.triage.lesions import LinkedLesion


@dataclass(frozen=True, eq=False)
class Findings:
    """An assessed volume.

    Attributes
    ----------
    hu
        HU, canonical [X, Y, Z].
    lungs
        uint8, canonical: 1 right lung, 2 left lung.
    labels
        uint8, canonical: 1 ground-glass opacity, 2 consolidation.
    source_labels
        The same in the order of the source's axes: shape (columns, rows, slices), or that of the slices as
        they were reduced.
    reduction
        Side of the blocks of source pixels that became one; 1 where the slices were not reduced.
    grid
        Of the canonical volume.
    linked, lesions
        Lesions with their pixels and as reported, in the order of their numbers.
    seen
        Canonical indices of the slices that were read; the others were interpolated.
    """

    hu: NDArray
    lungs: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    source_labels: NDArray[np.uint8]
    reduction: int
    grid: CanonicalGrid
    linked: tuple[LinkedLesion, ...]
    lesions: tuple[LesionReport, ...]
    seen: frozenset[int]

    @classmethod
    def of(
        cls, data: Mapping[Hashable, Any], result: StudyResult, volume: SourceVolume | None
    ) -> Findings | None:
        """Return the findings of a study from its data dictionary, or None if it was not assessed.

        Parameters
        ----------
        data : mapping
            Data dictionary of the pipeline after the triage.
        result : StudyResult
            Of the study.
        volume : SourceVolume or None
            The series as it was read; None for NIfTI.
        """
        if result.triage is None:
            return None
        canonical, outcome = data["volume"], data["outcome"]
        grid = canonical_grid(canonical)
        full: FullGrid | None = canonical.meta.get(FULL_GRID)
        hu = canonical[0].numpy()
        slices = range(hu.shape[2])
        headers = None if volume is None else volume.headers
        seen = [k for k in slices if headers is None or headers[grid.source_slice(k)] is not None]
        return cls(
            hu=hu,
            lungs=np.asarray(data["lung_mask"][0], dtype=np.uint8),
            labels=outcome.label_map,
            source_labels=source_view(outcome.label_map, grid.source_affine),
            reduction=1 if full is None else full.factors[0],
            grid=grid,
            linked=outcome.linked,
            lesions=outcome.lesions,
            seen=frozenset(seen),
        )

    def without_pixels(self) -> Findings:
        """Return the findings without HU, for what is done once the pictures are drawn."""
        return dataclasses.replace(self, hu=self.hu[..., :0].copy())

    def outlines(self, volume: SourceVolume) -> tuple[SliceOutline, ...]:
        """Return the outlines of the lesions in pixels of the source images."""
        return outline_lesions(self.linked, self.grid, volume.headers, volume.frame_numbers)
