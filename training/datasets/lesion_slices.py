"""COVID-SemiSeg slices as published with Inf-Net: ``images/N.jpg``, palette ``masks/N.png``, transposed.

Non-commercial data: for validation and experiments, never for weights that are shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.datasets.lesions_only import slices_with_lesions
from covid_ct_mask_net.training.datasets.records import (
    Record,
    existing_folder,
    files_in,
    make_record,
    paired_by_name,
    stem_of,
)
from covid_ct_mask_net.training.targets import MINIMUM_AREA


def lesion_slices(
    root: Path | str,
    *,
    lesions_only: bool = False,
    mask_type: MaskType | str = MaskType.BOTH,
    minimum_area: int = MINIMUM_AREA,
) -> list[Record]:
    """Return the data dictionaries of the labelled slices, in the order of their numbers.

    Each slice counts as a patient, for the collection does not say whose it is: folds over it are
    *patient-unaware*, and results have to say so.

    Parameters
    ----------
    root : path
    lesions_only : bool
        Leave out slices without a lesion that is taught, as the original does; this reads every mask once.
    mask_type, minimum_area
        Those of the training, where ``lesions_only``: type of masks, and pixels up to which a lesion is none.

    Raises
    ------
    RefusedInputError
        If a slice has no mask or the other way round, or no slice has a lesion.
    """
    folder = existing_folder(root, "images/ and masks/")
    pairs = paired_by_name(
        files_in(existing_folder(folder / "images", "slices N.jpg")),
        files_in(existing_folder(folder / "masks", "masks N.png")),
    )
    if not pairs:
        raise RefusedInputError("FOLDER_EMPTY", f"There are no images in {folder / 'images'}.")
    records = []
    for image, mask in pairs:
        number = stem_of(image)
        if not number.isdigit():
            raise RefusedInputError("NAME_FORMAT", f"The image {image} is not named by a number.")
        records.append(
            make_record(
                image,
                mask=mask,
                patient=number,
                scan=number,
                slice_index=int(number),
                transposed=True,
            )
        )
    if lesions_only:
        records = slices_with_lesions(records, mask_type, minimum_area)
    return sorted(records, key=lambda record: int(record["slice"]))


def folds(records: Sequence[Record], count: int, seed: int) -> list[tuple[list[Record], list[Record]]]:
    """Split into (training, validation) pairs; every patient is in the validation part of exactly one fold.

    Parameters
    ----------
    records : sequence of dict
    count : int
        Number of folds.
    seed : int
        Of the order in which patients are dealt to folds.

    Raises
    ------
    UsageError
        If there are fewer patients than folds.
    """
    patients = sorted({str(record["patient"]) for record in records})
    if not 2 <= count <= len(patients):
        raise UsageError(
            "FOLDS",
            f"{count} folds were asked for; 2 to {len(patients)} (the number of patients) are possible.",
        )
    order = np.random.default_rng(seed).permutation(len(patients))
    fold_of = {patients[index]: place % count for place, index in enumerate(order)}
    return [
        (
            [record for record in records if fold_of[str(record["patient"])] != fold],
            [record for record in records if fold_of[str(record["patient"])] == fold],
        )
        for fold in range(count)
    ]
