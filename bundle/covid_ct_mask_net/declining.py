"""Volumes that cannot be assessed go on as a reason, not as an exception that ends the run.

Transforms raise `NotAssessableError` or `RefusedInputError` where a gate is not passed. Inside a run over
several volumes that error is kept in the data dictionary under ``DECLINED`` and later steps leave the volume
alone, so that each ends with a result of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform

from covid_ct_mask_net.errors import (
    CovidCTMaskNetError,
    NotAssessableError,
    RefusedInputError,
    expected_cause,
)

DECLINED = "declined"
SLICES = "slices"
SLICE_INDICES = "slice_indices"
SLICE_CROP = "slice_crop"
SLICE_SAMPLING = "slice_sampling"
# Places along the slice axis of the source that were interpolated; a volume without the entry has none.
INTERPOLATED_SLICES = "interpolated_slices"
# Canonical indices of slices that show nothing, so that nothing on them is seen; absent where there are none.
BLANK_SLICES = "blank_slices"

Declinable = NotAssessableError | RefusedInputError


class DecliningCompose(Transform):
    """Apply transforms in order; where one declines the volume, keep the reason and stop.

    Parameters
    ----------
    transforms : sequence of callables
        Dictionary transforms, as for `monai.transforms.Compose`.
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        self.transforms = tuple(transforms)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the transformed data, or what there was before the step that declined.

        Then the error is under ``DECLINED`` and there are no slices.
        """
        current = dict(data)
        for transform in self.transforms:
            if DECLINED in current:
                break
            try:
                current = dict(transform(current))
            except Exception as error:
                reason = declining_cause(error)
                if reason is None:
                    raise
                current |= {
                    DECLINED: reason,
                    SLICES: torch.zeros(0, 1, 1, 1),
                    SLICE_INDICES: torch.zeros(0, dtype=torch.int64),
                }
        return current


def declining_cause(error: BaseException) -> Declinable | None:
    """Return the reason to decline that lies behind an exception, if there is one."""
    cause = expected_cause(error)
    return cause if isinstance(cause, NotAssessableError | RefusedInputError) else None


def declined(data: Mapping[Hashable, Any]) -> CovidCTMaskNetError | None:
    """Return why a volume was declined, or None if it was not."""
    reason = data.get(DECLINED)
    return reason if isinstance(reason, CovidCTMaskNetError) else None
