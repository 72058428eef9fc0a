"""Three-dimensional lesions: instances of neighbouring slices linked where they overlap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.evidence import LesionInstance, SliceEvidence
from covid_ct_mask_net.geometry import CanonicalGrid, voxel_spacing, voxel_volume_ml
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.triage.label_map import instance_region


@dataclass(frozen=True)
class LesionRules:
    """Which detections count, and which of them are one lesion.

    Attributes
    ----------
    min_score
        Detections below are left out.
    min_area_mm2
        Smaller instances on a slice are left out.
    min_volume_ml
        Smaller lesions are left out.
    min_lung_share
        Share of an instance that must lie in the lungs; a network may report lesions outside of them.
    lung_margin_mm
        The lungs are taken this much wider for that test: dense lesions at the pleura are easily cut off.
    link_share
        Two instances of one class are one lesion if they share this part of the smaller one.
    min_certainty, lone_certainty
        Lesions whose highest score is below the first are left out, and those seen on one slice only if below
        the second: false alarms at domes and vessels seldom repeat on the next slice.
    bridge_mm
        Instances this far apart along the table are linked across slices without a detection between them.
    """

    min_score: float = 0.5
    min_area_mm2: float = 10.0
    min_volume_ml: float = 0.02
    min_lung_share: float = 0.5
    lung_margin_mm: float = 5.0
    link_share: float = 0.3
    bridge_mm: float = 5.0
    min_certainty: float = 0.0
    lone_certainty: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_score", "min_lung_share", "link_share", "min_certainty", "lone_certainty"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError("SETTING", f"{name} is {getattr(self, name)}, but must lie in 0 to 1.")
        for name in ("min_area_mm2", "min_volume_ml", "lung_margin_mm", "bridge_mm"):
            if getattr(self, name) < 0.0:
                raise UsageError("SETTING", f"{name} is {getattr(self, name)}, but must not be negative.")


@dataclass(frozen=True, eq=False)
class LungSpace:
    """The lungs of a volume.

    Attributes
    ----------
    mask
        uint8 [X, Y, Z], nonzero in the lungs.
    spacing
        Of the voxels along the three axes, mm.
    """

    mask: NDArray[np.uint8]
    spacing: tuple[float, float, float]

    def slice(self, index: int) -> NDArray[np.bool_]:
        """Return the lungs on a display slice, (rows, columns)."""
        inside: NDArray[np.bool_] = self.mask[:, :, index].T > 0
        return inside


@dataclass(frozen=True, eq=False)
class LinkedLesion:
    """Instances that make one lesion, inferior to superior."""

    lesion_class: LesionClass
    instances: tuple[LesionInstance, ...]

    @property
    def slices(self) -> tuple[int, ...]:
        """Canonical indices of the slices the lesion was seen on."""
        return tuple(sorted({instance.slice_index for instance in self.instances}))

    @property
    def certainty(self) -> float:
        """Highest detection score."""
        return max(instance.score for instance in self.instances)


def accepted_instances(
    evidence: Sequence[SliceEvidence], lungs: NDArray[np.uint8], grid: CanonicalGrid, rules: LesionRules
) -> tuple[LesionInstance, ...]:
    """Return the instances that are certain, large enough and inside the lungs.

    Parameters
    ----------
    evidence : sequence of SliceEvidence
        Of any slices in any order.
    lungs : NDArray
        uint8 [X, Y, Z], nonzero in the lungs.
    grid : CanonicalGrid
        Of the volume.
    rules : LesionRules
        Thresholds.
    """
    space = LungSpace(lungs, voxel_spacing(grid.affine))
    accepted = [
        instance
        for slice_evidence in evidence
        for instance in slice_evidence.instances
        if is_accepted(instance, space, rules)
    ]
    return tuple(sorted(accepted, key=_position))


def is_accepted(instance: LesionInstance, lungs: LungSpace, rules: LesionRules) -> bool:
    """Tell whether an instance is certain, large enough and inside the lungs; whatever is on other slices."""
    return bool(
        instance.score >= rules.min_score
        and instance.mask.sum() * lungs.spacing[0] * lungs.spacing[1] >= rules.min_area_mm2
        and _in_lung(instance, lungs.slice(instance.slice_index), lungs.spacing, rules)
    )


def link(
    instances: Iterable[LesionInstance],
    grid: CanonicalGrid,
    rules: LesionRules,
    weights: Mapping[int, int] | None = None,
    following: Mapping[int, int] | None = None,
) -> tuple[LinkedLesion, ...]:
    """Join instances into lesions, largest volume first.

    Two instances of one class belong together if they overlap on one slice or on slices at most
    ``bridge_mm`` apart (neighbouring slices always count), directly or through others. The outcome does not
    depend on the order of the instances.

    Parameters
    ----------
    instances : iterable of LesionInstance
    grid : CanonicalGrid
    rules : LesionRules
    weights : mapping, optional
        How many slices each slice stands for in the volume of lesions; 1 where not named.
    following : mapping, optional
        The next slice that was read above a slice, where slices between them were left out.
    """
    ordered = sorted(instances, key=_position)
    spacing = voxel_spacing(grid.affine)
    # Spacing comes from decimal strings: a thousandth of a slice is rounding.
    reach = max(1, int(rules.bridge_mm / spacing[2] + 1e-3))
    by_slice: defaultdict[int, list[int]] = defaultdict(list)
    for number, instance in enumerate(ordered):
        by_slice[instance.slice_index].append(number)
    pairs = [
        (first, second)
        for index, numbers in by_slice.items()
        for first in numbers
        for other in _partners(index, reach, following or {})
        for second in by_slice.get(other, ())
        if second > first and _together(ordered[first], ordered[second], rules.link_share)
    ]
    if not ordered:
        return ()
    edges = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), dtype=bool), edges.T), shape=(len(ordered), len(ordered)))
    count, component = connected_components(graph, directed=False)
    members: list[list[LesionInstance]] = [[] for _ in range(count)]
    for instance, number in zip(ordered, component, strict=True):
        members[number].append(instance)
    lesions = [LinkedLesion(group[0].lesion_class, tuple(group)) for group in members]
    voxel_ml = voxel_volume_ml(grid.affine)
    volumes = [lesion_voxel_count(lesion, weights) * voxel_ml for lesion in lesions]
    ranked = sorted(
        zip(volumes, lesions, strict=True), key=lambda item: (-item[0], _position(item[1].instances[0]))
    )
    return tuple(
        lesion for volume, lesion in ranked if volume >= rules.min_volume_ml and _certain(lesion, rules)
    )


def _certain(lesion: LinkedLesion, rules: LesionRules) -> bool:
    least = rules.min_certainty if len(lesion.slices) > 1 else max(rules.min_certainty, rules.lone_certainty)
    return lesion.certainty >= least


def slice_masks(lesion: LinkedLesion) -> dict[int, tuple[tuple[int, int], NDArray[np.bool_]]]:
    """Return the union of a lesion's instances on each slice: (row, column) of a corner and a bool mask."""
    masks = {}
    for index in lesion.slices:
        group = [instance for instance in lesion.instances if instance.slice_index == index]
        top = min(i.offset[0] for i in group)
        left = min(i.offset[1] for i in group)
        bottom = max(i.offset[0] + i.mask.shape[0] for i in group)
        right = max(i.offset[1] + i.mask.shape[1] for i in group)
        union = np.zeros((bottom - top, right - left), dtype=bool)
        for instance in group:
            row, column = instance.offset[0] - top, instance.offset[1] - left
            union[row : row + instance.mask.shape[0], column : column + instance.mask.shape[1]] |= (
                instance.mask
            )
        masks[index] = ((top, left), union)
    return masks


def lesion_voxels(lesion: LinkedLesion) -> Iterator[NDArray[np.int64]]:
    """Yield the canonical voxels [i, j, k] of a lesion, each once, slice by slice, shape (n, 3)."""
    for index, ((row, column), mask) in slice_masks(lesion).items():
        rows, columns = np.nonzero(mask)
        yield np.column_stack([columns + column, rows + row, np.full(len(rows), index)])


def lesion_voxel_count(lesion: LinkedLesion, weights: Mapping[int, int] | None = None) -> int:
    """Return the number of voxels of a lesion, each counted once, or by the weight of its slice."""
    of = weights or {}
    return sum(int(mask.sum()) * of.get(index, 1) for index, (_, mask) in slice_masks(lesion).items())


def _partners(index: int, reach: int, following: Mapping[int, int]) -> list[int]:
    """Return the slices whose instances may belong to the lesions of a slice, itself and above."""
    near = list(range(index, index + reach + 1))
    above = following.get(index, index)
    return near if above <= index + reach else [*near, above]


def _in_lung(
    instance: LesionInstance,
    lung: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    rules: LesionRules,
) -> bool:
    """Tell whether enough of an instance lies in the lung, or within the margin around it."""
    required = rules.min_lung_share * instance.mask.sum()
    _, rows, columns = instance_region(instance)
    if (lung[rows, columns] & instance.mask).sum() >= required:
        return True
    # Lung outside this window is farther away than the margin.
    margin_rows, margin_columns = (int(np.ceil(rules.lung_margin_mm / spacing[axis])) for axis in (1, 0))
    top, left = max(rows.start - margin_rows, 0), max(columns.start - margin_columns, 0)
    window = lung[top : rows.stop + margin_rows, left : columns.stop + margin_columns]
    if not window.any():
        return bool(required == 0)
    distance = ndimage.distance_transform_edt(~window, sampling=(spacing[1], spacing[0]))
    near = distance <= rules.lung_margin_mm
    height, width = instance.mask.shape
    inside = near[rows.start - top :, columns.start - left :][:height, :width] & instance.mask
    return bool(inside.sum() >= required)


def _together(first: LesionInstance, second: LesionInstance, share: float) -> bool:
    if first.lesion_class is not second.lesion_class:
        return False
    (row_a, column_a), (row_b, column_b) = first.offset, second.offset
    top, left = max(row_a, row_b), max(column_a, column_b)
    bottom = min(row_a + first.mask.shape[0], row_b + second.mask.shape[0])
    right = min(column_a + first.mask.shape[1], column_b + second.mask.shape[1])
    if bottom <= top or right <= left:
        return False
    overlap = (
        first.mask[top - row_a : bottom - row_a, left - column_a : right - column_a]
        & second.mask[top - row_b : bottom - row_b, left - column_b : right - column_b]
    ).sum()
    return bool(overlap > 0 and overlap >= share * min(first.mask.sum(), second.mask.sum()))


def _position(instance: LesionInstance) -> tuple[int, int, float, tuple[float, ...]]:
    return instance.slice_index, int(instance.lesion_class), -instance.score, instance.box
