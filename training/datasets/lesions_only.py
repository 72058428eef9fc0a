"""Slices with a lesion that is taught: the original trained on no others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.datasets.read import read_mask
from covid_ct_mask_net.training.datasets.records import MASK, MASK_VALUES, Record
from covid_ct_mask_net.training.targets import MINIMUM_AREA, detection_target, merged_labels


def has_lesion(
    labels: np.ndarray, mask_type: MaskType | str = MaskType.BOTH, minimum_area: int = MINIMUM_AREA
) -> bool:
    """Return whether a slice has a lesion that would be taught.

    Parameters
    ----------
    labels : (H, W) of integers
        0 background, 1 GGO, 2 consolidation.
    mask_type : MaskType or str
        ``ggo`` sees no consolidation; ``merge`` joins both, so that a lesion may be larger than its parts.
    minimum_area : int
        Lesions of this many pixels or fewer are none; the original drops slices without a larger one.
    """
    kind = MaskType(mask_type)
    if int(np.count_nonzero(merged_labels(labels, kind))) <= minimum_area:
        return False
    return len(detection_target(labels, kind, minimum_area)["labels"]) > 0


def slices_with_lesions(
    records: Sequence[Record], mask_type: MaskType | str = MaskType.BOTH, minimum_area: int = MINIMUM_AREA
) -> list[Record]:
    """Return the slices with a lesion that would be taught, in their order; this reads every mask once.

    Parameters
    ----------
    records : sequence of dict
        Images with a mask each, no slices of volumes.
    mask_type, minimum_area
        Those of the training (`has_lesion`).

    Raises
    ------
    RefusedInputError
        If no slice is left, or a mask cannot be read.
    """
    left = [
        record
        for record in records
        if has_lesion(read_mask(Path(record[MASK]), record[MASK_VALUES]), mask_type, minimum_area)
    ]
    if not left:
        raise RefusedInputError(
            "NO_LESIONS",
            f"None of {len(records)} slices has a lesion of more than {minimum_area} pixels (mask type "
            f"{MaskType(mask_type)}); lower minimum_area, or train without lesions_only.",
        )
    return left
