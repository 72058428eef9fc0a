"""Which results are written for a study."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from covid_ct_mask_net.errors import UsageError

MOST_KEY_IMAGES = 3


class SRClass(StrEnum):
    """SOP class of the structured report; both hold the same content, old archives take only the second."""

    COMPREHENSIVE_3D = "comprehensive-3d"
    COMPREHENSIVE = "comprehensive"


@dataclass(frozen=True)
class ReportSettings:
    """What is written beside ``result.json`` and the structured report, which are always there.

    Attributes
    ----------
    sr_class
        SOP class of the structured report.
    segmentation
        DICOM Segmentation of ground-glass opacity and consolidation.
    key_images
        Secondary Capture images with burned-in outlines, 0 to 3.
    presentation_state
        Outlines for display on the original images (GSPS).
    key_objects
        Key Object Selection of the images with the largest lesions.
    pdf
        Encapsulated PDF with the answer in words and the key images.
    html
        ``report.html``.
    """

    sr_class: SRClass = SRClass.COMPREHENSIVE_3D
    segmentation: bool = True
    key_images: int = MOST_KEY_IMAGES
    presentation_state: bool = True
    key_objects: bool = True
    pdf: bool = False
    html: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.key_images <= MOST_KEY_IMAGES:
            raise UsageError(
                "SETTING", f"key_images is {self.key_images}, but must lie in 0 to {MOST_KEY_IMAGES}."
            )
