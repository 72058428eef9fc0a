"""The classes of the paper: slice classes (section 3.1) and lesion classes.

Class ids are contracts: 0 Control, 1 Common Pneumonia, 2 COVID-19 for slices and volumes; lesion masks
hold 1 for ground-glass opacity and 2 for consolidation, by label *value* and never by the rank of the
labels that happen to be present.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class SliceClass(IntEnum):
    """What the head S tells apart."""

    CONTROL = 0
    COMMON_PNEUMONIA = 1
    COVID_19 = 2

    @property
    def label(self) -> str:
        """Name for people, as the paper prints it."""
        return _SLICE_CLASS_NAMES[self]


_SLICE_CLASS_NAMES = {
    SliceClass.CONTROL: "Control",
    SliceClass.COMMON_PNEUMONIA: "Common Pneumonia",
    SliceClass.COVID_19: "COVID-19",
}
SLICE_CLASS_NAMES = tuple(c.label for c in SliceClass)


class LesionClass(IntEnum):
    """Lesion types of the segmentation network; the value is the voxel value in lesion masks."""

    GROUND_GLASS_OPACITY = 1
    CONSOLIDATION = 2

    @property
    def label(self) -> str:
        """Name for people."""
        return self.name.replace("_", " ").capitalize().replace("Ground glass", "Ground-glass")


class MaskType(StrEnum):
    """Which lesions the detector is trained on (paper, section 3.2; M8).

    ``both`` tells GGO and consolidation apart, ``ggo`` sees GGO only, ``merge`` takes both as one
    class "lesion".
    """

    BOTH = "both"
    GGO = "ggo"
    MERGE = "merge"

    @property
    def num_classes(self) -> int:
        """Number of detector classes, background included."""
        return 3 if self is MaskType.BOTH else 2


class Side(StrEnum):
    """Patient side, never image side."""

    RIGHT = "right"
    LEFT = "left"


class Zone(StrEnum):
    """Craniocaudal third of a lung; thirds of its own height, not anatomical lobes."""

    UPPER = "upper"
    MIDDLE = "middle"
    LOWER = "lower"
