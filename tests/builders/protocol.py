"""The data sets of the paper in miniature, in the original's file layout, with lesions that tell classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from builders.lesion_data import chest_slice

SIDE = 64
GGO, CONSOLIDATION = 2, 3
_GREY = {GGO: 105, CONSOLIDATION: 165}
# Control: nothing; common pneumonia: one consolidation; COVID-19: ground-glass opacities in both lungs.
_LESIONS = {0: (), 1: ((CONSOLIDATION, 0.3),), 2: ((GGO, 0.3), (GGO, 0.7), (GGO, 0.3))}


@dataclass(frozen=True)
class Collections:
    """Where the miniature data sets lie: CNCB masks, COVIDx-CT images and lists, iCTCF folders."""

    cncb: Path
    covidx: Path
    ictcf: Path


def make_collections(root: Path) -> Collections:
    """Write all three data sets below a folder."""
    found = Collections(root / "cncb", root / "covidx", root / "ictcf")
    _write_cncb(found.cncb)
    _write_covidx(found.covidx)
    _write_ictcf(found.ictcf)
    return found


def diseased_slice(slice_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a slice and its mask (0 background, 1 lung, 2 GGO, 3 consolidation), both (64, 64) uint8."""
    generator = np.random.default_rng(seed)
    image = chest_slice(seed)
    mask = (image < 70).astype(np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    # Outside of the body it is dark, too.
    mask[((columns - 31.5) / 28) ** 2 + ((rows - 31.5) / 24) ** 2 > 1] = 0
    for label, side in _LESIONS[slice_class]:
        row, column = generator.integers(20, 44), side * SIDE + generator.integers(-3, 4)
        height, width = generator.uniform(5, 8, size=2)
        inside = ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1
        image[inside] = np.clip(_GREY[label] + generator.normal(0, 8, inside.sum()), 0, 255)
        mask[inside] = label
    return image, mask


def _write_cncb(root: Path) -> None:
    """``images/Patient_Slice.jpg``, ``masks/Patient_Slice.png``, two lists; a quarter has no lesion."""
    lists: dict[str, list[str]] = {"train.txt": [], "test.txt": []}
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for patient in range(8):
        for index in range(2):
            number = 2 * patient + index
            slice_class = 0 if number % 4 == 3 else 1 + number % 2
            image, mask = diseased_slice(slice_class, seed=number)
            name = f"{patient}_{40 + index}"
            Image.fromarray(image).save(root / "images" / f"{name}.jpg", quality=95)
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")
            lists["test.txt" if patient >= 6 else "train.txt"].append(f"{name}.jpg\n")
    for name, lines in lists.items():
        (root / name).write_text("".join(lines))


def _write_covidx(root: Path) -> None:
    """``images/Class_Patient_Scan_Slice.png`` and the lists of COVIDx-CT v1."""
    (root / "images").mkdir(parents=True)
    for split, patients, slices in (("train", 4, 5), ("val", 2, 2), ("test", 3, 2)):
        lines = []
        for slice_class, prefix in enumerate(("Normal", "CP", "NCP")):
            for patient in range(patients):
                number = {"train": 100, "val": 200, "test": 300}[split] + 10 * slice_class + patient
                for index in range(slices):
                    image, _ = diseased_slice(slice_class, seed=1000 * number + index)
                    name = f"{prefix}_{number}_{1000 + number}_{index:04d}.png"
                    Image.fromarray(image).save(root / "images" / name)
                    lines.append(f"{name} {slice_class} 8 8 56 56\n")
        (root / f"{split}.txt").write_text("".join(lines))


def _write_ictcf(root: Path) -> None:
    """``nCT/Patient N/CT/M.jpg`` and ``pCT/…``, with a list for fine-tuning and one for the test."""
    lists: dict[str, list[str]] = {"train.txt": [], "test.txt": []}
    for folder, label, slice_class in (("nCT", 0, 0), ("pCT", 1, 2)):
        for patient in range(6):
            for index in range(2):
                file = f"{folder}/Patient {10 * label + patient}/CT/{index}.jpg"
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                image, _ = diseased_slice(slice_class, seed=50_000 + 100 * label + 10 * patient + index)
                Image.fromarray(image).save(root / file, quality=95)
                lists["test.txt" if patient >= 4 else "train.txt"].append(f"{file} {label}\n")
    for name, lines in lists.items():
        (root / name).write_text("".join(lines))
