"""Small data sets in the layouts of the published ones, with one keyword for each defect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64


def chest_slice(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Return a grey slice (side, side) uint8: air, a body ellipse, two dark lungs, a little noise."""
    rows, columns = np.mgrid[:side, :side] / (side - 1) - 0.5
    image = np.where((columns / 0.45) ** 2 + (rows / 0.38) ** 2 < 1, 180, 0).astype(float)
    for centre in (-0.2, 0.2):
        image[((columns - centre) / 0.15) ** 2 + (rows / 0.28) ** 2 < 1] = 40
    noise = np.random.default_rng(seed).normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def lesion_mask(ggo: bool = True, consolidation: bool = True, side: int = SIDE) -> np.ndarray:
    """Return labels (side, side) uint8 in 0 background, 1 lung, 2 GGO, 3 consolidation."""
    mask = np.zeros((side, side), dtype=np.uint8)
    quarter = side // 4
    mask[quarter : 3 * quarter, quarter : 3 * quarter] = 1
    if ggo:
        mask[quarter : quarter + 12, quarter : quarter + 14] = 2
    if consolidation:
        mask[2 * quarter : 2 * quarter + 11, 2 * quarter : 2 * quarter + 13] = 3
    return mask


def make_cncb(root: Path, patients: int = 3, slices: int = 2, *, strange_value: bool = False) -> Path:
    """Write images/, masks/ and list.txt with ``Patient_Slice`` names; return the root."""
    names = [f"{patient}_{10 * index + 3}" for patient in range(patients) for index in range(slices)]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number, name in enumerate(names):
        mask = lesion_mask(ggo=number % 3 != 1, consolidation=number % 2 == 0)
        if strange_value and number == 0:
            mask[0, 0] = 9
        # Denser than lung, in the image as in the mask.
        image = chest_slice(number)
        image[mask == 2] = 100
        image[mask == 3] = 160
        Image.fromarray(image).save(root / "images" / f"{name}.jpg")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    (root / "list.txt").write_text("".join(f"{name}.jpg\n" for name in names))
    return root


def make_covidx(root: Path, per_class: int = 2) -> Path:
    """Write images/ and list.txt of COVIDx-CT v1; a patient and scan for each class and image pair."""
    (root / "images").mkdir(parents=True)
    lines = []
    for slice_class, prefix in enumerate(("Normal", "CP", "NCP")):
        for index in range(per_class):
            patient = 100 * slice_class + index // 2
            name = f"{prefix}_{patient}_{1000 + patient}_{index:04d}.png"
            Image.fromarray(chest_slice(patient * 7 + index)).save(root / "images" / name)
            lines.append(f"{name} {slice_class} 2 12 62 50\n")
    (root / "list.txt").write_text("".join(lines))
    return root
