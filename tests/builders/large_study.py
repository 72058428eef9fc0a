"""A chest CT of thousands of large slices, written file by file: the whole of it fits in no test's memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from builders.chest import ball, make_chest
from builders.dicom import ct_dataset, write
from covid_ct_mask_net.identifiers import derive_uid

# Of the phantom that is enlarged: 256 x 256 x 200 voxels.
_SPACING = (1.4, 1.4, 1.6)


def make_large_study(folder: Path, *, slices: int = 2000, side: int = 1024) -> None:
    """Write a study with consolidation and ground-glass opacity as ``slices`` files of ``side`` x ``side``.

    Native pixels of 16 bits, uncompressed: 2 MB a file of 1,024 x 1,024.
    """
    folder.mkdir(parents=True)
    chest = make_chest(
        spacing=_SPACING,
        extent=(256 * _SPACING[0], 256 * _SPACING[1], 200 * _SPACING[2]),
        consolidations=[ball(-70.0, 20.0, 120.0, 22.0)],
        ground_glass=[ball(70.0, 30.0, 160.0, 30.0)],
    )
    times, thickness = side // 256, 200 * _SPACING[2] / slices
    pixel = _SPACING[0] * 256 / side
    rng = np.random.default_rng(5)
    for k in range(slices):
        plane = chest.hu[:, :, k * 200 // slices].T.repeat(times, axis=0).repeat(times, axis=1)
        plane = plane + rng.normal(0.0, 20.0, plane.shape[1])[None]
        dataset = ct_dataset(plane)
        dataset.PatientName, dataset.PatientID, dataset.PatientPosition = "Large^Study", "LARGE", "HFS"
        dataset.StudyInstanceUID = derive_uid("large study")
        dataset.SeriesInstanceUID = derive_uid("large series")
        dataset.SOPInstanceUID = derive_uid("large instance", str(k))
        dataset.FrameOfReferenceUID = derive_uid("large frame")
        dataset.SeriesNumber, dataset.InstanceNumber = 2, k + 1
        dataset.ConvolutionKernel, dataset.ImageType = "LUNG", ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SliceThickness = round(thickness, 4)
        dataset.PixelSpacing = [pixel, pixel]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [-side * pixel / 2, -side * pixel / 2, round(k * thickness, 4)]
        write(dataset, folder / f"{k:04d}.dcm")
