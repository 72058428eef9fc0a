"""Slices of a series, one view for single-frame images and for multi-frame ones.

An Enhanced CT keeps what a single-frame image says in its header in functional groups (PS3.3 C.7.6.16),
shared by all frames or for each of them. A frame's header is made by putting those attributes at the top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from covid_ct_mask_net.app import headers, pixels
from covid_ct_mask_net.app.intake import Instance, Series
from covid_ct_mask_net.app.limits import Limits

# Macro (PS3.3 C.7.6.16.2, C.8.15.3) and the attributes of it that a single-frame header has at the top.
_MACROS = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "CTImageFrameTypeSequence": ("FrameType",),
    "CTReconstructionSequence": ("ConvolutionKernel",),
    "FrameContentSequence": ("FrameAcquisitionNumber", "TemporalPositionIndex"),
}
StoredValues = Callable[..., NDArray]
"""``pixels.stored_values``, or what does the same in another process."""

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: an instance, or one frame of a multi-frame instance.

    ``number`` is the DICOM frame number, from 1, or None for a single-frame image.
    """

    instance: Instance
    header: Dataset
    number: int | None = None

    def decode(
        self, limits: Limits, stored_values: StoredValues = pixels.stored_values
    ) -> NDArray[np.float32]:
        """Return the slice in HU, float32, shape (rows, columns); errors as ``pixels.decode``."""
        stored = stored_values(self.instance, limits, frame=(self.number or 1) - 1)
        pixels.check_content(stored, self.header)
        return pixels.to_hounsfield(stored, self.header)


def frames_of(series: Series) -> tuple[Frame, ...]:
    """Return the slices of a series of CT images, in the order of the instances and their frames."""
    return tuple(frame for instance in series.instances for frame in frames_of_instance(instance))


def frames_of_instance(instance: Instance) -> tuple[Frame, ...]:
    """Return the slices of one CT image."""
    if instance.header.SOPClassUID not in headers.ENHANCED_CT:
        return (Frame(instance, instance.header),)
    count = int(headers.number(instance.header, "NumberOfFrames") or 1)
    per_frame = headers.items(instance.header, "PerFrameFunctionalGroupsSequence")
    shared = next(iter(headers.items(instance.header, "SharedFunctionalGroupsSequence")), Dataset())
    common = Dataset()
    for tag in list(instance.header.keys()):
        element = headers.readable_element(instance.header, tag)
        if element is not None and element.keyword not in _GROUPS:
            common.add(element)
    common.file_meta = instance.header.file_meta
    frames = []
    for number in range(1, count + 1):
        own = per_frame[number - 1] if number <= len(per_frame) else Dataset()
        frames.append(Frame(instance, _frame_header(common, shared, own), number))
    return tuple(frames)


def _frame_header(common: Dataset, shared: Dataset, own: Dataset) -> Dataset:
    header = Dataset()
    header.update(common)
    for macro, keywords in _MACROS.items():
        item = next(iter(headers.items(own, macro) or headers.items(shared, macro)), Dataset())
        for keyword in keywords:
            element = headers.readable_element(item, keyword)
            if element is not None:
                header[keyword] = element
    if "FrameType" in header:
        header.ImageType = header.FrameType
    return header
