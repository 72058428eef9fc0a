from __future__ import annotations

import numpy as np
import pytest
import torch

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.targets import LesionTargetsd, detection_target


def _mask() -> np.ndarray:
    mask = np.zeros((40, 50), np.uint8)
    mask[2:14, 3:13] = 1  # 120 pixels of GGO
    mask[20:31, 30:45] = 2  # 165 pixels of consolidation
    mask[14:24, 13:23] = 1  # touches the first only at a corner: one lesion with it
    mask[35:38, 2:5] = 1  # 9 pixels: too small
    return mask


def test_components_of_each_class_become_instances_with_edge_boxes() -> None:
    target = detection_target(_mask(), MaskType.BOTH)
    assert target["boxes"].tolist() == [[3, 2, 23, 24], [30, 20, 45, 31]]
    assert target["labels"].tolist() == [1, 2]
    assert target["masks"].shape == (2, 40, 50)
    assert target["masks"].sum(dim=(1, 2)).tolist() == [220, 165]
    assert (target["boxes"].dtype, target["labels"].dtype, target["masks"].dtype) == (
        torch.float32, torch.int64, torch.uint8,
    )  # fmt: skip


def test_a_consolidation_alone_is_class_two() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:14, 2:14] = 2
    assert detection_target(mask, MaskType.BOTH)["labels"].tolist() == [2]


@pytest.mark.parametrize(("mask_type", "labels"), [("ggo", [1]), ("merge", [1, 1]), ("both", [1, 2])])
def test_mask_types(mask_type: str, labels: list[int]) -> None:
    assert detection_target(_mask(), MaskType(mask_type))["labels"].tolist() == labels


def test_the_minimum_area_is_exclusive_and_can_be_switched_off() -> None:
    mask = np.zeros((30, 30), np.uint8)
    mask[:10, :10] = 1
    assert len(detection_target(mask, MaskType.BOTH)["labels"]) == 0
    mask[10, 0] = 1
    assert len(detection_target(mask, MaskType.BOTH)["labels"]) == 1
    assert len(detection_target(_mask(), MaskType.BOTH, minimum_area=0)["labels"]) == 3


def test_a_slice_without_lesions_has_empty_boxes() -> None:
    target = LesionTargetsd("both")({"mask": torch.zeros(1, 8, 9, dtype=torch.uint8), "file": "a"})
    assert target["target"]["boxes"].shape == (0, 4)
    assert target["target"]["labels"].shape == (0,)
    assert target["target"]["masks"].shape == (0, 8, 9)
    assert "mask" not in target
    assert "mask" in LesionTargetsd("both", keep_mask=True)({"mask": torch.zeros(1, 8, 9)})


def test_a_box_one_pixel_wide_has_width_one() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[2:8, 4] = 1
    assert detection_target(mask, MaskType.GGO, minimum_area=0)["boxes"].tolist() == [[4, 2, 5, 8]]


def test_lung_labels_are_refused() -> None:
    with pytest.raises(UsageError, match="label 3"):
        detection_target(np.full((4, 4), 3), MaskType.BOTH)
