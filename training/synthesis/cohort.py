"""Cohorts: patients of the three classes, split by patient, written in the layouts that the product reads."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from covid_ct_mask_net import RESEARCH_NOTICE, __version__
from covid_ct_mask_net.errors import OutputError, UsageError
from covid_ct_mask_net.labels import LesionClass, SliceClass
from covid_ct_mask_net.training.datasets.names import SliceName
from covid_ct_mask_net.training.files import csv_text, write_text
from covid_ct_mask_net.training.synthesis.dicom_files import SeriesText, write_series
from covid_ct_mask_net.training.synthesis.grids import Grid
from covid_ct_mask_net.training.synthesis.patients import Patient, implanted_patient, phantom_patient
from covid_ct_mask_net.training.synthesis.phantom import EMPHYSEMA_SHARE, Chest

SPLITS = ("train", "val", "test")
# Slices with less lung are not shown to the networks (transforms/slices.py), nor less lesion called diseased.
_LEAST_LUNG_MM2 = 500.0
_LEAST_LESION_PIXELS = 30
_WINDOW = (-600.0, 1500.0)


class Layout(StrEnum):
    """What is written of each patient."""

    DICOM = "dicom"
    NIFTI = "nifti"
    SLICES = "slices"


@dataclass(frozen=True)
class CohortSettings:
    """What a cohort is made of.

    Attributes
    ----------
    patients
        Number of patients; classes take turns, so that they are equally many.
    seed
        The same seed and settings give the same bytes.
    size
        Rows and columns of phantoms.
    step_mm
        Slice distance of phantoms; drawn patient by patient if None.
    shares
        Of training, validation and test patients; of each class alike.
    layouts
        What to write.
    mass_share
        Of patients, of any class, with solid masses in their lungs, which are no lesions and no disease here.
    emphysema_share
        Of phantoms, of any class, with emphysema.
    """

    patients: int
    seed: int
    size: int = 512
    step_mm: float | None = None
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15)
    layouts: tuple[Layout, ...] = (Layout.NIFTI, Layout.SLICES)
    mass_share: float = 0.0
    emphysema_share: float = EMPHYSEMA_SHARE

    def __post_init__(self) -> None:
        if self.patients < 1:
            raise UsageError("SETTING", f"{self.patients} patients were asked for; at least 1 is needed.")
        if self.size < 64:
            raise UsageError("SETTING", f"The size is {self.size} pixels, but must be at least 64.")
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise UsageError("SETTING", f"The shares of the splits are {self.shares}, but must sum to 1.")
        for what, share in (("masses", self.mass_share), ("emphysema", self.emphysema_share)):
            if not 0 <= share <= 1:
                raise UsageError(
                    "SETTING", f"The share of patients with {what} is {share}, but must lie in 0 to 1."
                )


def draw_patient(
    settings: CohortSettings, number: int, real: Sequence[tuple[str, Sequence[Chest]]] = ()
) -> tuple[Patient, str]:
    """Return one patient of a cohort with the name of its split.

    Parameters
    ----------
    settings : CohortSettings
    number : int
        From 0.
    real : sequence of (name, chests), optional
        Real people whose lungs get the lesions, in place of phantoms; all that stem from one person are in
        one split.
    """
    order = _splits(settings, len(real))
    # Each patient has its own random numbers: cohorts of different length begin alike.
    rng = np.random.default_rng([settings.seed, number])
    slice_class = SliceClass(number % len(SliceClass))
    if real:
        person = (number // len(SliceClass)) % len(real)
        source, chests = real[person]
        chest = chests[int(rng.integers(len(chests)))]
        patient = implanted_patient(f"{number:04d}", slice_class, chest, source, rng, settings.mass_share)
        return patient, order[person]
    patient = phantom_patient(
        f"{number:04d}", slice_class, rng, settings.size, settings.step_mm, settings.mass_share,
        settings.emphysema_share,
    )  # fmt: skip
    return patient, order[number // len(SliceClass)]


def _splits(settings: CohortSettings, people: int) -> list[str]:
    """Return the split of each group of three patients (one a class), or of each real person."""
    groups = people or -(-settings.patients // len(SliceClass))
    ends = np.rint(np.cumsum(settings.shares) * groups).astype(int)
    return [SPLITS[int(np.searchsorted(ends, index, side="right"))] for index in range(groups)]


def write_cohort(
    folder: Path,
    settings: CohortSettings,
    real: Sequence[tuple[str, Sequence[Chest]]] = (),
    credit: str = "",
    progress: Callable[[str], None] | None = None,
    workers: int = 1,
) -> None:
    """Write a cohort.

    ``scans.csv`` and ``slices.csv`` list all scans and slices with class and split, ``cohort.json`` says how
    it was made. NIfTI volumes lie in ``images`` and ``masks``, DICOM series in ``dicom/<patient>``; slices in
    ``slices`` under COVIDx-CT's names with one list a split, and those with lesions also in ``segmentation``
    with CNCB's mask values (1 lung, 2 GGO, 3 consolidation).

    Parameters
    ----------
    folder : Path
        Must not exist or be empty.
    settings : CohortSettings
    real : sequence of (name, chests), optional
        See `draw_patient`.
    credit : str
        Attribution that the licence of the real series asks for.
    progress : callable, optional
        Told one line a patient.
    workers : int
        Patients made at a time, each by a process of its own if there are several. Files are the same.

    Raises
    ------
    UsageError
        For less than one worker.
    OutputError
        If the folder holds files already, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError("OUTPUT_EXISTS", f"{folder} exists and is not empty; name a new folder.")
    if workers < 1:
        raise UsageError("SETTING", f"workers is {workers}, but must be at least 1.")
    work = partial(_make_patient, folder, settings, real, credit)
    written: list[_Written] = []
    try:
        with _mapping(min(workers, settings.patients)) as mapped:
            for one in mapped(work, range(settings.patients)):
                written.append(one)
                if progress is not None:
                    progress(one.line)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise OutputError(
            "COHORT_NOT_WRITTEN", f"{folder} could not be written: {error.strerror}."
        ) from error
    scans, slices = [one.scan for one in written], [row for one in written for row in one.slices]
    write_text(folder / "scans.csv", csv_text([_SCAN_COLUMNS, *scans]))
    write_text(folder / "slices.csv", csv_text([_SLICE_COLUMNS, *slices]))
    for split in SPLITS:
        names = [name for one in written if one.split == split for name in one.names]
        if names:
            write_text(folder / "slices" / f"{split}.txt", "".join(f"{name}\n" for name in names))
    write_text(folder / "cohort.json", json.dumps(_description(settings, real, credit), indent=2) + "\n")


@dataclass(frozen=True)
class _Written:
    """What the tables of a cohort say of a patient whose files are written."""

    split: str
    scan: list[str]
    slices: list[list[str]]
    names: list[str]
    line: str


def _make_patient(
    folder: Path,
    settings: CohortSettings,
    real: Sequence[tuple[str, Sequence[Chest]]],
    credit: str,
    number: int,
) -> _Written:
    patient, split = draw_patient(settings, number, real)
    _write_patient(folder, patient, settings.layouts, credit)
    names = _write_slices(folder, patient) if Layout.SLICES in settings.layouts else []
    return _Written(
        split, _scan_row(patient, split), _slice_rows(patient, split), names, _line(patient, split)
    )


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterable[_Written]]]:
    """Give a ``map``, in order, over so many processes."""
    if workers == 1:
        yield map
        return
    # Forked, a process could hang in a lock that a thread of this one held.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_SCAN_COLUMNS = [
    "patient", "split", "class_id", "class", "source", "slices", "step_mm", "pixel_mm", "kernel",
    "lesions", "ggo_ml", "consolidation_ml", "lung_ml", "masses", "emphysema",
]  # fmt: skip
_SLICE_COLUMNS = [
    "patient",
    "split",
    "slice",
    "class_id",
    "lung_pixels",
    "ggo_pixels",
    "consolidation_pixels",
]


def _scan_row(patient: Patient, split: str) -> list[str]:
    ggo, solid = (patient.volume_ml(lesion_class) for lesion_class in LesionClass)
    lung_ml = float(np.count_nonzero(patient.lungs)) * patient.grid.voxel_ml
    found = len(np.unique(patient.instances)) - 1
    return [
        patient.name, split, str(int(patient.slice_class)), patient.slice_class.label, patient.source,
        str(len(patient.hu)), f"{patient.grid.spacing[0]:g}", f"{patient.grid.spacing[1]:.4f}",
        patient.kernel, str(found), f"{ggo:.2f}", f"{solid:.2f}", f"{lung_ml:.0f}",
        str(int(patient.masses)),
        f"{patient.emphysema:.2f}",
    ]  # fmt: skip


def _slice_rows(patient: Patient, split: str) -> list[list[str]]:
    classes = patient.slice_classes(_LEAST_LESION_PIXELS)
    counts = [
        np.count_nonzero(mask, axis=(1, 2))
        for mask in (patient.lungs > 0, *(patient.labels == lesion_class for lesion_class in LesionClass))
    ]
    return [
        [patient.name, split, str(index), str(classes[index]), *(str(count[index]) for count in counts)]
        for index in range(len(patient.hu))
    ]


def _line(patient: Patient, split: str) -> str:
    ggo, solid = (patient.volume_ml(lesion_class) for lesion_class in LesionClass)
    return (
        f"patient {patient.name}: {patient.slice_class.label}, {split}, {len(patient.hu)} slices, "
        f"GGO {ggo:.0f} ml, consolidation {solid:.0f} ml{', masses' if patient.masses else ''}"
    )


def _write_patient(folder: Path, patient: Patient, layouts: Sequence[Layout], credit: str) -> None:
    if Layout.DICOM in layouts:
        text = SeriesText(
            patient=f"SYN-{patient.name}",
            study="1",
            description=f"CHEST {patient.kernel.upper()}"[:64],
            kernel=patient.kernel[:16],
            derived_from=credit if patient.source != "phantom" else "",
        )
        write_series(folder / "dicom" / patient.name, patient.hu, patient.grid, text)
    if Layout.NIFTI in layouts:
        _write_nifti(folder / "images" / f"{patient.name}.nii.gz", patient.hu.astype(np.int16), patient.grid)
    if Layout.NIFTI in layouts or Layout.DICOM in layouts:
        _write_nifti(folder / "masks" / f"{patient.name}.nii.gz", patient.labels, patient.grid)


def _write_nifti(path: Path, voxels: np.ndarray, grid: Grid) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels.transpose(2, 1, 0), grid.ras_affine)  # type: ignore[no-untyped-call]
    # No time stamp in the archive: the same volume gives the same bytes.
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def _write_slices(folder: Path, patient: Patient) -> list[str]:
    """Write the lung slices as 8-bit images, those with lesions also for segmentation; return their names."""
    low = _WINDOW[0] - _WINDOW[1] / 2
    shown = np.rint(np.clip((patient.hu - low) / _WINDOW[1], 0, 1) * 255).astype(np.uint8)
    classes = patient.slice_classes(_LEAST_LESION_PIXELS)
    pixel_mm2 = patient.grid.spacing[1] * patient.grid.spacing[2]
    whole, lesions = folder / "slices" / "images", folder / "segmentation"
    for made in (whole, lesions / "images", lesions / "masks"):
        made.mkdir(parents=True, exist_ok=True)
    names = []
    for index, plane in enumerate(shown):
        if np.count_nonzero(patient.lungs[index]) * pixel_mm2 < _LEAST_LUNG_MM2:
            continue
        number = str(int(patient.name))
        name = SliceName(number, number, f"{index:04d}", SliceClass(int(classes[index])))
        Image.fromarray(plane).save(whole / name.covidx)
        names.append(name.covidx)
        if patient.labels[index].any():
            stem = f"{number}_{index:04d}.png"
            values = np.where(patient.labels[index] > 0, patient.labels[index] + 1, patient.lungs[index] > 0)
            Image.fromarray(plane).save(lesions / "images" / stem)
            Image.fromarray(values.astype(np.uint8)).save(lesions / "masks" / stem)
    return names


def _description(
    settings: CohortSettings, real: Sequence[tuple[str, Sequence[Chest]]], credit: str
) -> dict[str, Any]:
    return {
        "schema": "covid-ct-mask-net/cohort/1",
        "version": __version__,
        "notice": f"Synthetic lesions. {RESEARCH_NOTICE}",
        "settings": asdict(settings),
        "real_chests": [name for name, _ in real],
        "credit": credit,
    }
