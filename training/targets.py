"""Lesion masks into detection targets: each connected component of a lesion class is one instance.

Paper, section 3.2. Two differences from the original's code: classes are by label value and not by the rank
of the labels present, and slices without lesions stay, with empty boxes. Box sides are pixel edges, as in the
original: a lesion one pixel wide has width 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from scipy import ndimage
from torch import Tensor

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import LesionClass, MaskType
from covid_ct_mask_net.training.datasets.records import MASK

TARGET = "target"
# The original's ignore_small: lesions of up to 100 pixels on a slice of 512 x 512 are not taught.
MINIMUM_AREA = 100
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class LesionTargetsd(MapTransform):
    """Turn the lesion labels under ``mask`` into a detection target under ``target``.

    Parameters
    ----------
    mask_type : MaskType or str
        ``both``, ``ggo`` or ``merge``.
    minimum_area : int
        Lesions of this many pixels or fewer are left out; 0 keeps all.
    keep_mask : bool
        Whether the label image stays in the dictionary (evaluation needs it, training does not).
    """

    def __init__(
        self, mask_type: MaskType | str, minimum_area: int = MINIMUM_AREA, keep_mask: bool = False
    ) -> None:
        super().__init__(keys=(MASK,))
        self.mask_type = MaskType(mask_type)
        self.minimum_area = minimum_area
        self.keep_mask = keep_mask

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with ``target``: ``boxes`` (n, 4), ``labels`` (n,), ``masks`` (n, H, W)."""
        result = dict(data)
        result[TARGET] = detection_target(result[MASK], self.mask_type, self.minimum_area)
        if not self.keep_mask:
            del result[MASK]
        return result


def detection_target(
    mask: Tensor | np.ndarray, mask_type: MaskType, minimum_area: int = MINIMUM_AREA
) -> dict[str, Tensor]:
    """Return the lesion instances of one slice.

    Parameters
    ----------
    mask : (H, W) or (1, H, W) of integers
        0 background, 1 GGO, 2 consolidation.
    mask_type : MaskType
    minimum_area : int
        Lesions of this many pixels or fewer are left out.

    Returns
    -------
    dict
        ``boxes`` (n, 4) float32 as x1, y1, x2, y2 pixel edges, ``labels`` (n,) int64, ``masks`` (n, H, W)
        uint8; n may be 0. By class, then from top to bottom.
    """
    labels = np.asarray(mask)
    if labels.ndim == 3:
        labels = labels[0]
    boxes: list[tuple[int, int, int, int]] = []
    classes: list[int] = []
    instances: list[np.ndarray] = []
    classes_of = merged_labels(labels, mask_type)
    for lesion_class in range(1, mask_type.num_classes):
        # Diagonal neighbours belong together, as in the original.
        components, _ = ndimage.label(classes_of == lesion_class, structure=_EIGHT_NEIGHBOURS)
        for index, where in enumerate(ndimage.find_objects(components), start=1):
            instance = components == index
            if int(instance[where].sum()) <= minimum_area:
                continue
            rows, columns = where
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
            classes.append(lesion_class)
            instances.append(instance)
    shape = (len(instances), *labels.shape)
    stacked = np.stack(instances).astype(np.uint8) if instances else np.zeros(shape, dtype=np.uint8)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(classes, dtype=torch.int64),
        "masks": torch.from_numpy(stacked),
    }


def merged_labels(labels: np.ndarray, mask_type: MaskType) -> np.ndarray:
    """Return lesion labels as the detector's classes under a mask type, same shape.

    Raises
    ------
    UsageError
        If a label is not 0, 1 or 2: label maps belong to reading (`datasets.read`).
    """
    if labels.size and int(labels.max()) > max(LesionClass):
        raise UsageError(
            "LESION_LABEL",
            f"A mask holds label {int(labels.max())}; 0 background, 1 GGO and 2 consolidation were expected.",
        )
    if mask_type is MaskType.BOTH:
        return labels.astype(np.uint8)
    if mask_type is MaskType.GGO:
        return (labels == LesionClass.GROUND_GLASS_OPACITY).astype(np.uint8)
    return (labels > 0).astype(np.uint8)
