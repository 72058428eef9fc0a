"""Real chest CT series as a ground for synthetic lesions."""

from __future__ import annotations

import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.synthesis.grids import Grid, Volume
from covid_ct_mask_net.training.synthesis.phantom import Chest
from covid_ct_mask_net.transforms.lungs import segment_lungs

_AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# Padding outside the field of view is stored far below air.
_LOWEST_HU = -1024.0


def read_real_chests(folder: Path) -> list[Chest]:
    """Return every axial CT series below a folder as a chest, in the order of their UIDs.

    The lungs come from `transforms.lungs.segment_lungs`. Series are expected to be free of infection; the
    caller answers for that, and for the licence under which they may be used.

    Parameters
    ----------
    folder : Path
        Searched at any depth; files that are no CT images are passed over.

    Raises
    ------
    UsageError
        If there is no such folder.
    RefusedInputError
        If it holds no usable series; tilted and oblique ones are not used.
    """
    if not folder.is_dir():
        raise UsageError("FOLDER_MISSING", f"There is no folder {folder}; a chest CT series was expected.")
    series: dict[str, list[FileDataset]] = defaultdict(list)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        image = _ct_image(path)
        if image is not None:
            series[str(image.SeriesInstanceUID)].append(image)
    chests = [_chest(images) for _, images in sorted(series.items()) if len(images) >= 16]
    usable = [chest for chest in chests if chest is not None]
    if not usable:
        raise RefusedInputError(
            "NO_REAL_CHEST",
            f"{folder} holds no axial chest CT series of at least 16 evenly spaced slices with lungs.",
        )
    return usable


def _ct_image(path: Path) -> FileDataset | None:
    try:
        image = pydicom.dcmread(path)
    except (InvalidDicomError, OSError, ValueError):
        return None
    return image if image.get("Modality") == "CT" and "PixelData" in image else None


def _chest(images: list[FileDataset]) -> Chest | None:
    images = sorted(images, key=lambda image: float(image.ImagePositionPatient[2]))
    heights = np.array([float(image.ImagePositionPatient[2]) for image in images])
    steps = np.diff(heights)
    axial = all(np.allclose(image.ImageOrientationPatient, _AXIAL, atol=1e-3) for image in images)
    if not axial or steps.min() <= 0 or not np.allclose(steps, np.median(steps), atol=0.1):
        return None
    first = images[0]
    rows, columns = (float(s) for s in first.PixelSpacing)
    x, y, z = (float(p) for p in first.ImagePositionPatient)
    hu = np.stack([_hounsfield(image) for image in images])
    grid = Grid(hu.shape, (float(np.median(steps)), rows, columns), (z, y, x))
    lungs = segment_lungs(np.ascontiguousarray(hu.transpose(2, 1, 0)), grid.ras_affine)
    if not lungs.any():
        return None
    return Chest(hu, np.ascontiguousarray(lungs.transpose(2, 1, 0)), grid, None, None)


def _hounsfield(image: FileDataset) -> Volume:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = image.pixel_array.astype(np.float32)
    hu = stored * float(image.RescaleSlope) + float(image.RescaleIntercept)
    return np.maximum(hu, _LOWEST_HU).astype(np.float32)
