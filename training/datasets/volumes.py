"""Folders of NIfTI volumes with lesion masks, slice by slice (MosMedData, the Zenodo 20 cases, cohorts)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError
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

_NIFTI = (".nii", ".nii.gz")
# Masks that tell infection from none: all of it counts as GGO, by far the commoner type; use MaskType.MERGE.
INFECTION_MASK_VALUES = {0: 0, 1: 1}


def lesion_volumes(
    images: Path | str,
    masks: Path | str,
    *,
    mask_suffix: str = "",
    mask_values: Mapping[int, int] | None = None,
    slice_classes: Mapping[str, int] | None = None,
    lesions_only: bool = False,
) -> list[Record]:
    """Return one data dictionary for every axial slice of every volume.

    Parameters
    ----------
    images, masks : path
        Folders of ``.nii`` or ``.nii.gz`` files, paired by name; HU and labels.
    mask_suffix : str
        What a mask's name has more than its volume's: ``"_mask"`` in MosMedData.
    mask_values : mapping of int to int, optional
        Value in the masks to lesion label (0, 1 GGO, 2 consolidation).
    slice_classes : mapping of str to int, optional
        Class of all slices of a volume by its name without suffix.
    lesions_only : bool
        Leave out slices without lesions; this reads every mask once.

    Returns
    -------
    list of dict
        Slices count from the feet. Scans and patients are the volumes' names.

    Raises
    ------
    RefusedInputError
        If a volume or mask is missing or unreadable, or their shapes differ.
    """
    pairs = paired_by_name(
        files_in(existing_folder(images, "NIfTI volumes"), _NIFTI),
        files_in(existing_folder(masks, "NIfTI masks"), _NIFTI),
        mask_suffix=mask_suffix,
    )
    if not pairs:
        raise RefusedInputError("FOLDER_EMPTY", f"There are no NIfTI volumes in {images}.")
    values = dict(LESION_MASK_VALUES if mask_values is None else mask_values)
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
                patient=name,
                scan=name,
                slice_index=index,
                slice_class=None if slice_classes is None else slice_classes.get(name),
                file=f"{name}#{index:04d}",
            )
            records.append({**record, VOLUME_SLICE: index})
    return records


def _common_slices(image: Path, mask: Path) -> int:
    shape, mask_shape = volume_shape(image), volume_shape(mask)
    if shape != mask_shape:
        raise RefusedInputError(
            "MASK_SIZE",
            f"The mask {mask} has {' x '.join(map(str, mask_shape))} voxels, but its volume has "
            f"{' x '.join(map(str, shape))}.",
        )
    return shape[2]
