"""Folders of NIfTI volumes with lesion masks, slice by slice (MosMedData, the Zenodo 20 cases, cohorts)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.read import read_mask, volume_shape
from covid_ct_mask_net.training.datasets.records import (
    LESION_MASK_VALUES,
    VOLUME_SLICE,
    Record,
    existing_folder,
    files_in,
    make_record,
    paired_by_name,
    stem_of,
)
from covid_ct_mask_net.training.datasets.volume_patients import (
    TABLE,
    is_table,
    listed_volumes,
    patients_of,
    table_beside,
)

_NIFTI = (".nii", ".nii.gz")
# Masks that tell infection from none: all of it counts as GGO, by far the commoner type; use MaskType.MERGE.
INFECTION_MASK_VALUES = {0: 0, 1: 1}


def lesion_volumes(
    images: Path | str,
    masks: Path | str,
    listed: Path | str | None = None,
    *,
    mask_suffix: str = "",
    mask_values: Mapping[int, int] | None = None,
    slice_classes: Mapping[str, int] | None = None,
    lesions_only: bool = False,
    patient_pattern: str | None = None,
    split: str | None = None,
) -> list[Record]:
    """Return one data dictionary for every axial slice of every volume.

    Whose a volume is says a table ``volumes.csv`` beside the folder of images (``volume``, ``patient``, maybe
    ``split``), ``scans.csv`` of a cohort, or ``patient_pattern``. With neither, each volume is taken for a
    patient, and a warning is logged.

    Parameters
    ----------
    images, masks : path
        Folders of ``.nii`` or ``.nii.gz`` files, paired by name; HU and labels.
    listed : path, optional
        Volumes to take: a text file with a name a line, or a table of its own (``.csv``). Without it the two
        folders have to match completely.
    mask_suffix : str
        What a mask's name has more than its volume's: ``"_mask"`` in MosMedData.
    mask_values : mapping of int to int, optional
        Value in the masks to lesion label (0, 1 GGO, 2 consolidation).
    slice_classes : mapping of str to int, optional
        Class of all slices of a volume by its name without suffix.
    lesions_only : bool
        Leave out slices without lesions; this reads every mask once.
    patient_pattern : str, optional
        Regular expression that names begin with; its first group is the patient: ``"(P[0-9]+)_"``.
    split : str, optional
        Take only volumes of this split of the table.

    Returns
    -------
    list of dict
        Slices count from the feet. Scans are the volumes' names.

    Raises
    ------
    UsageError
        If a folder or list is missing, or what was asked for contradicts itself.
    RefusedInputError
        If a volume or mask is missing or unreadable, their shapes differ, a volume has no patient, or a table
        has a patient in two splits.
    """
    folder = existing_folder(images, "NIfTI volumes")
    volumes, labels = files_in(folder, _NIFTI), files_in(existing_folder(masks, "NIfTI masks"), _NIFTI)
    names = None if listed is None else Path(listed)
    table = names if names is not None and is_table(names) else table_beside(folder)
    chosen = _chosen(folder, names, table, split)
    if chosen is not None:
        volumes = _wanted(volumes, chosen, folder)
        labels = _wanted(labels, [name + mask_suffix for name in chosen], Path(masks))
    pairs = paired_by_name(volumes, labels, mask_suffix=mask_suffix)
    if not pairs:
        raise RefusedInputError("FOLDER_EMPTY", f"There are no NIfTI volumes in {images}.")
    values = dict(LESION_MASK_VALUES if mask_values is None else mask_values)
    patients = patients_of([stem_of(image) for image, _ in pairs], folder, patient_pattern, table)
    records: list[Record] = []
    for image, mask in pairs:
        name = stem_of(image)
        for index in range(_common_slices(image, mask)):
            if lesions_only and not read_mask(mask, values, index).any():
                continue
            record = make_record(
                image,
                mask=mask,
                mask_values=values,
                patient=patients[name],
                scan=name,
                slice_index=index,
                slice_class=None if slice_classes is None else slice_classes.get(name),
                file=f"{name}#{index:04d}",
            )
            records.append({**record, VOLUME_SLICE: index})
    return records


def _chosen(folder: Path, listed: Path | None, table: Path | None, split: str | None) -> list[str] | None:
    """Return the names of the volumes to take, or None for all."""
    if listed is not None:
        return listed_volumes(listed, split)
    if split is None:
        return None
    if table is None:
        raise UsageError(
            "LIST_MISSING", f"Split {split} was asked for, but there is no table {TABLE} beside {folder}."
        )
    return listed_volumes(table, split)


def _wanted(files: list[Path], names: list[str], folder: Path) -> list[Path]:
    wanted, present = set(names), {stem_of(path) for path in files}
    missing = [name for name in names if name not in present]
    if missing:
        raise RefusedInputError(
            "LIST_MISMATCH",
            f"{missing[0]} is listed, but {folder} has no such volume ({len(missing)} of {len(names)} listed "
            "volumes are missing).",
        )
    return [path for path in files if stem_of(path) in wanted]


def _common_slices(image: Path, mask: Path) -> int:
    shape, mask_shape = volume_shape(image), volume_shape(mask)
    if shape != mask_shape:
        raise RefusedInputError(
            "MASK_SIZE",
            f"The mask {mask} has {' x '.join(map(str, mask_shape))} voxels, but its volume has "
            f"{' x '.join(map(str, shape))}.",
        )
    return shape[2]
