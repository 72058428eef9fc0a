"""What one run accepts at most: documented settings, each refusal names the one that was exceeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from covid_ct_mask_net.reduction import ReductionRule

if TYPE_CHECKING:
    from covid_ct_mask_net.nifti_stream import NiftiLimits


@dataclass(frozen=True)
class Limits:
    """Bounds on the input, checked before memory is spent on it.

    Attributes
    ----------
    study_files, study_bytes
        Files and bytes of one study; bytes of a NIfTI file, unpacked.
    file_bytes
        Size of one file.
    minimum_side, maximum_side
        Rows and columns of an image; the second also of the axial slices of a NIfTI file.
    minimum_slices, maximum_slices
        Slices of a series, or axial slices of a NIfTI file, that is assessed.
    reduce_voxels, reduce_side
        A volume with more voxels than the first has its slices averaged in blocks of n x n pixels, n the
        smallest whole number that brings it there, as long as their longer side keeps as many pixels as the
        second. No slice is left out, and the results say so (``MATRIX_REDUCED``).
    voxels
        Voxels of a volume in memory, reduced or not; larger ones are refused. A run takes about 1.5 GB and
        then up to 5 bytes a voxel, 8 where HU are not whole numbers.
    nesting
        Depth of sequences inside sequences.
    header_bytes
        Length of a file ahead of its pixels.
    value_bytes
        Values of the header above this length are not kept.
    inflate_ratio, inflate_bytes
        A deflated file may grow to this many times its size, and to this size.
    study_seconds
        One study may take this long from the choice of its series to its result (0: no limit).
    intake_seconds
        Looking through the input may take this long; files not reached by then are refused (0: no limit).
    read_seconds
        One file, or one frame of it, may take this long to read or decode (clock and processor).
    read_memory_bytes
        Memory of a process that reads files.
    isolation
        Whether untrusted files are read in processes of their own; off for debugging only.
    lossy
        Whether images under a lossy transfer syntax are read; the volume then carries a warning.
    """

    study_files: int = 20_000
    study_bytes: int = 8 * 1024**3
    file_bytes: int = 600 * 1024**2
    minimum_side: int = 64
    maximum_side: int = 2048
    minimum_slices: int = 16
    maximum_slices: int = 3000
    reduce_voxels: int = 600_000_000
    reduce_side: int = 384
    voxels: int = 1_500_000_000
    nesting: int = 32
    header_bytes: int = 64 * 1024**2
    value_bytes: int = 64 * 1024
    inflate_ratio: int = 200
    inflate_bytes: int = 128 * 1024**2
    study_seconds: int = 900
    intake_seconds: int = 3600
    read_seconds: int = 30
    read_memory_bytes: int = 2 * 1024**3
    isolation: bool = True
    lossy: bool = False

    @property
    def reduction(self) -> ReductionRule:
        """When and how far slices are reduced."""
        return ReductionRule(self.reduce_voxels, self.reduce_side)

    @property
    def nifti(self) -> NiftiLimits:
        """Bounds on a NIfTI file."""
        # Imported where it is needed: processes that read DICOM stay small.
        from covid_ct_mask_net.nifti_stream import NiftiLimits

        return NiftiLimits(
            side=self.maximum_side,
            slices=self.maximum_slices,
            voxels=self.voxels,
            unpacked_bytes=self.study_bytes,
            inflate_ratio=self.inflate_ratio,
            reduction=self.reduction,
        )
