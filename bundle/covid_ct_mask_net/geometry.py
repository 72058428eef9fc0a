"""Where a voxel of the canonical volume lies in the source and in the patient.

Volumes are indexed ``[i, j, k]``. An affine takes voxel indices to millimetres in RAS+ (nibabel's and
MONAI's convention); DICOM positions are LPS+, which negates the first two coordinates. The *canonical*
volume has axes L, P, S: the first index grows towards the patient's left, the second to posterior, the
third to superior. The slice shown to a network is ``volume[:, :, k].T``: rows run to posterior, columns
to the patient's left, which is the radiological display orientation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
CANONICAL_AXES = "LPS"
# Signs of the RAS axes that the letters stand for.
_AXIS = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "S": (2, 1), "I": (2, -1)}


def voxel_spacing(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the distance in mm between neighbouring voxels along each index of the volume."""
    first, second, third = np.linalg.norm(np.asarray(affine, dtype=float)[:3, :3], axis=0)
    return float(first), float(second), float(third)


def voxel_volume_ml(affine: NDArray[np.float64]) -> float:
    """Return the volume of one voxel in millilitres; right for sheared (tilted) grids too."""
    return float(abs(np.linalg.det(np.asarray(affine, dtype=float)[:3, :3])) / 1000.0)


def canonical_axes(affine: NDArray[np.float64]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return which source axis becomes each canonical axis, and -1 where it is flipped on the way.

    Each source axis goes to the patient axis that it follows most closely, the clearest first.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    strength = np.abs(directions).copy()
    patient_of = {}
    for _ in range(3):
        patient, source = np.unravel_index(strength.argmax(), strength.shape)
        patient_of[int(patient)] = int(source)
        strength[patient, :] = strength[:, source] = -1.0
    order, signs = [], []
    for letter in CANONICAL_AXES:
        patient, wanted = _AXIS[letter]
        source = patient_of[patient]
        order.append(source)
        signs.append(1 if directions[patient, source] * wanted > 0 else -1)
    return (order[0], order[1], order[2]), (signs[0], signs[1], signs[2])


def moved_affine(
    affine: NDArray[np.float64], order: Sequence[int], signs: Sequence[int], shape: Sequence[int]
) -> NDArray[np.float64]:
    """Return the affine after permuting axes and flipping some of the permuted ones.

    Parameters
    ----------
    affine : NDArray
        float64 (4, 4): voxel to mm.
    order, signs : sequence of int
        Axis that each new one was, and -1 where it is flipped; as from `canonical_axes`.
    shape : sequence of int
        Voxels along the new axes.
    """
    change = np.zeros((4, 4))
    change[3, 3] = 1.0
    for axis, (source, sign) in enumerate(zip(order, signs, strict=True)):
        change[source, axis] = sign
        if sign < 0:
            change[source, 3] = shape[axis] - 1
    moved: NDArray[np.float64] = affine @ change
    return moved


@dataclass(frozen=True, eq=False)
class CanonicalGrid:
    """The canonical volume's grid and the way back to the source volume it was made from.

    Attributes
    ----------
    affine
        float64 (4, 4): canonical voxel ``[i, j, k]`` to RAS mm.
    source_affine
        float64 (4, 4): source voxel to RAS mm.
    """

    affine: NDArray[np.float64]
    source_affine: NDArray[np.float64]

    def to_patient(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """Return LPS positions in mm, shape (n, 3), of canonical voxel coordinates (n, 3)."""
        return _apply(RAS_TO_LPS @ self.affine, voxels)

    def to_source(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """Return source voxel coordinates, shape (n, 3), of canonical voxel coordinates (n, 3).

        Fractional coordinates stay fractional: contours may run between voxels.
        """
        return _apply(np.linalg.inv(self.source_affine) @ self.affine, voxels)

    @property
    def slice_axis(self) -> int:
        """Axis of the source along which the axial slices follow each other; 2 in DICOM."""
        return canonical_axes(self.source_affine)[0][2]

    @property
    def plane_axes(self) -> tuple[int, int]:
        """The other two axes of the source, which span its axial slices, in their order."""
        first, second = (axis for axis in range(3) if axis != self.slice_axis)
        return first, second

    def source_slice(self, slice_index: int) -> int:
        """Return which source slice (index along ``slice_axis``) a canonical slice came from."""
        return round(float(self.to_source([[0.0, 0.0, slice_index]])[0, self.slice_axis]))

    def slice_position(self, slice_index: int) -> float:
        """Return the table position in mm (LPS z, larger is more superior) of a canonical slice."""
        return float(self.to_patient([[0.0, 0.0, slice_index]])[0, 2])


def _apply(matrix: NDArray[np.float64], voxels: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(voxels, dtype=np.float64).reshape(-1, 3)
    moved: NDArray[np.float64] = points @ matrix[:3, :3].T + matrix[:3, 3]
    return moved
