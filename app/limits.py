"""What one run accepts at most: documented settings, each refusal names the one that was exceeded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on the input, checked before memory is spent on it.

    Attributes
    ----------
    study_files, study_bytes
        Files and bytes of one study.
    file_bytes
        Size of one file.
    minimum_side, maximum_side
        Rows and columns of an image.
    minimum_slices, maximum_slices
        Slices of a series that is assessed.
    voxels
        Rows x columns x slices of a DICOM series and of a NIfTI file; larger ones are refused. A volume takes
        about 12 bytes a voxel.
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
