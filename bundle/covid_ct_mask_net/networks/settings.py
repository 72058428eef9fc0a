"""Hyper-parameters of both networks, with the value of the paper's code as default.

The defaults made the published figures and checkpoints (paper, Tables 2 and 3, and the code that goes with
it). Where the two disagree, the field's comment says so; configurations may set any of them. Settings travel
inside checkpoints, so that a file alone rebuilds its network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.switches import switch

STAGE_COUNT = 4
FULL_BACKBONE = "resnet50"
LIGHT_BACKBONES = ("resnet18", "resnet34")


class _Settings:
    """Conversion to and from the plain mappings that configurations and checkpoints hold."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values (numbers, strings, switches, lists)."""
        plain: dict[str, Any] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, MaskType):
                value = value.value
            plain[field.name] = list(value) if isinstance(value, tuple) else value
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build settings from plain values.

        Raises
        ------
        UsageError
            If a name is unknown; the sentence lists the allowed ones.
        """
        allowed = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        unknown = sorted(set(values) - set(allowed))
        if unknown:
            raise UsageError(
                "UNKNOWN_SETTING",
                f"{cls.__name__} does not know {', '.join(unknown)}; allowed are {', '.join(allowed)}.",
            )
        return cls(**values)


@dataclass(frozen=True)
class DetectorSettings(_Settings):
    """Mask R-CNN for lesions.

    Attributes
    ----------
    backbone
        ``resnet50`` with four FPN levels, or ``resnet18`` / ``resnet34`` with one (the light models).
    truncation
        How many of the last residual stages are cut off, 0 to 2; light models only.
    mask_type
        Lesion classes: ``both``, ``ggo`` or ``merge``.
    anchor_sizes, anchor_ratios
        Sides in pixels and height-to-width ratios, the same at every level: 5 x 6 = 30 anchors.
    image_min_size, image_max_size
        Slices are resized so that the short side is the first, unless the long side passes the second.
    image_mean, image_std
        Normalisation of the three equal channels (ImageNet's).
    rpn_nms, rpn_foreground_iou, rpn_background_iou, rpn_batch, rpn_positive_fraction
        Region proposals: NMS threshold, matching and sampling.
    rpn_top_training, rpn_top_testing
        Proposals kept before and after NMS (per level before, in all after).
    roi_nms, roi_score, roi_foreground_iou, roi_background_iou, roi_batch, roi_positive_fraction
        Detections: NMS and score thresholds, matching and sampling.
    detections
        Largest number of detections of a slice.
    representation
        Width of the two fully connected layers of the box head.
    maskness
        Whether scores of detections are multiplied by how sure their masks are; not in the paper, whose
        scores are those of boxes. Thresholds on scores mean the product. What S reads is not touched by it.
    """

    backbone: str = FULL_BACKBONE
    truncation: int = 0
    mask_type: MaskType = MaskType.BOTH
    # The paper prints 2^{2:5}; its code and checkpoints have these five.
    anchor_sizes: tuple[int, ...] = (2, 4, 8, 16, 32)
    anchor_ratios: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0)
    image_min_size: int = 512
    image_max_size: int = 1024
    image_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    rpn_nms: float = 0.75
    # The paper prints 0.75; its code leaves torchvision's values.
    rpn_foreground_iou: float = 0.7
    rpn_background_iou: float = 0.3
    rpn_batch: int = 256
    rpn_positive_fraction: float = 0.75
    rpn_top_training: int = 2000
    rpn_top_testing: int = 1000
    # The paper's value; the code's command line has 0.5 in training and 0.75 for the AP of its README.
    roi_nms: float = 0.25
    roi_score: float = 0.05
    roi_foreground_iou: float = 0.75
    roi_background_iou: float = 0.5
    roi_batch: int = 256
    roi_positive_fraction: float = 0.75
    detections: int = 100
    representation: int = 128
    maskness: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask_type", _mask_type(self.mask_type))
        # Configurations have lists; settings are compared with those of checkpoints.
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        object.__setattr__(self, "maskness", switch(self.maskness, "maskness"))
        if self.backbone not in (FULL_BACKBONE, *LIGHT_BACKBONES):
            raise UsageError(
                "BACKBONE",
                f"The backbone is {self.backbone!r}, but must be {FULL_BACKBONE}, "
                f"{' or '.join(LIGHT_BACKBONES)}.",
            )
        deepest = 2 if self.light else 0
        if not 0 <= self.truncation <= deepest:
            raise UsageError(
                "TRUNCATION",
                f"Truncation is {self.truncation}, but {self.backbone} can lose 0 to {deepest} stages.",
            )

    @property
    def light(self) -> bool:
        """Whether this is a lightweight model: one FPN level, one mask layer."""
        return self.backbone != FULL_BACKBONE

    @property
    def levels(self) -> int:
        """Number of FPN levels."""
        return 1 if self.light else STAGE_COUNT

    @property
    def trunk(self) -> tuple[object, ...]:
        """Settings that proposals of a slice depend on besides the weights and the NMS threshold.

        Two networks that agree here may share a trunk, however their heads, sampling and thresholds differ.
        """
        return (
            self.backbone, self.truncation, self.anchor_sizes, self.anchor_ratios, self.image_min_size,
            self.image_max_size, self.image_mean, self.image_std, self.rpn_top_testing,
        )  # fmt: skip


@dataclass(frozen=True)
class ClassifierSettings(_Settings):
    """COVID-CT-Mask-Net: what differs from the detector whose trunk it takes, and the head S.

    Attributes
    ----------
    regions
        N, the number of ranked regions that S reads: 256, or 128 in the light models.
    features
        F, the width of S: 1024, or 512 in the light models.
    classes
        Slice classes: 3, or 2 after fine-tuning on iCTCF.
    rpn_nms, roi_nms, roi_score
        Thresholds of Table 3. The score threshold lies below any score: all regions are accepted.
    """

    regions: int = 256
    features: int = 1024
    classes: int = 3
    rpn_nms: float = 0.75
    roi_nms: float = 0.75
    roi_score: float = -0.01


def light_classifier_settings(**changes: Any) -> ClassifierSettings:
    """Return the settings of S in the light models (128 regions, 512 features)."""
    return dataclasses.replace(ClassifierSettings(regions=128, features=512), **changes)


def light_detector_settings(**changes: Any) -> DetectorSettings:
    """Return the settings of a light detector: ResNet18 cut after its third stage."""
    return dataclasses.replace(DetectorSettings(backbone="resnet18", truncation=1), **changes)


def _mask_type(value: MaskType | str) -> MaskType:
    try:
        return MaskType(value)
    except ValueError as error:
        raise UsageError(
            "MASK_TYPE", f"The mask type is {value!r}, but must be {', '.join(MaskType)}."
        ) from error
