"""The slices of the volume as single images that result objects can refer to.

highdicom takes single-frame images and multi-frame ones in different ways, and wants of the latter all of
their functional groups. Here each slice is shown to it as a single-frame CT image; for a frame of an enhanced
CT under a UID that stands for it, which ``restore_references`` turns into instance and frame afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DS

from covid_ct_mask_net.app import headers as attributes
from covid_ct_mask_net.app.normalise import Sources
from covid_ct_mask_net.identifiers import derive_uid


@dataclass(frozen=True, eq=False)
class SourceSlice:
    """One slice that was read.

    Attributes
    ----------
    place
        Index along the slice axis of the source volume.
    image
        The slice as a single-frame image without pixels; its UID stands for instance and frame.
    instance
        The normalised instance that it lies in.
    frame_number
        DICOM frame number in ``instance``, from 1, or None for a single-frame image.
    """

    place: int
    image: Dataset
    instance: Dataset
    frame_number: int | None


def source_slices(
    sources: Sources, headers: Sequence[Dataset | None], frame_numbers: Sequence[int | None]
) -> dict[int, SourceSlice]:
    """Return the slices by their place along the slice axis; those that were interpolated are left out.

    Parameters
    ----------
    sources : Sources
        Normalised instances.
    headers, frame_numbers
        Along the slice axis, as `SourceVolume` has them.
    """
    instances = sources.by_uid
    slices = {}
    for place, (header, frame) in enumerate(zip(headers, frame_numbers, strict=True)):
        if header is not None:
            instance = instances[str(header.SOPInstanceUID)]
            slices[place] = SourceSlice(place, _image(header, instance, frame), instance, frame)
    return slices


def has_frame_of_reference(slices: Iterable[SourceSlice]) -> bool:
    """Tell whether all slices lie in one declared frame of reference, which positions in space need."""
    uids = {str(one.instance.get("FrameOfReferenceUID", "")) for one in slices}
    return len(uids) == 1 and "" not in uids


def restore_references(dataset: Dataset, slices: Mapping[int, SourceSlice]) -> None:
    """Replace UIDs that stand for frames by the instance and, where it may be named, the frame number.

    Parameters
    ----------
    dataset : Dataset
        A result that refers to ``SourceSlice.image``; changed in place.
    slices : mapping
        From ``source_slices``.
    """
    frames = {str(one.image.SOPInstanceUID): one for one in slices.values() if one.frame_number is not None}
    if frames:
        _restore(dataset, frames)


def _image(header: Dataset, instance: Dataset, frame_number: int | None) -> Dataset:
    # Elements are shared with the instance, so what is set below must be new elements, not new values.
    image = Dataset()
    image.update(instance)
    for keyword, count in (
        ("ImagePositionPatient", 3),
        ("ImageOrientationPatient", 6),
        ("PixelSpacing", 2),
        ("SliceThickness", 1),
    ):
        values = attributes.numbers(header, keyword, count)
        if values is not None:
            decimals = [DS(value, auto_format=True) for value in values]
            image.add_new(keyword, "DS", decimals if count > 1 else decimals[0])
    # Held by every CT image that is read (pixels.calibration); the writers look for them.
    image.add_new("SamplesPerPixel", "US", 1)
    image.add_new("PhotometricInterpretation", "CS", "MONOCHROME2")
    if frame_number is not None:
        frame_uid = derive_uid("frame", str(instance.SOPInstanceUID), str(frame_number))
        image.add_new("SOPClassUID", "UI", CTImageStorage)
        image.add_new("SOPInstanceUID", "UI", frame_uid)
        if "NumberOfFrames" in image:
            del image.NumberOfFrames
    return image


def _restore(dataset: Dataset, frames: Mapping[str, SourceSlice], *, with_frames: bool = True) -> None:
    for element in dataset:
        if element.VR != "SQ":
            continue
        # Evidence names instances, never frames of them (PS3.3 C.17.2, SR Document General).
        inside = with_frames and element.keyword != "CurrentRequestedProcedureEvidenceSequence"
        named: dict[str, Dataset] = {}
        kept = []
        for item in element.value:
            found = frames.get(str(item.get("ReferencedSOPInstanceUID", "")))
            if found is not None:
                uid = str(found.instance.SOPInstanceUID)
                names_frames = inside and element.keyword in _NAMES_FRAMES
                if uid in named:
                    if names_frames:
                        _add_frame(named[uid], found.frame_number)
                    continue
                item.ReferencedSOPClassUID = found.instance.SOPClassUID
                item.ReferencedSOPInstanceUID = uid
                if names_frames:
                    item.ReferencedFrameNumber = found.frame_number
                named[uid] = item
            _restore(item, frames, with_frames=inside)
            kept.append(item)
        if len(kept) < len(element.value):
            element.value = kept


def _add_frame(item: Dataset, frame_number: int | None) -> None:
    present = item.ReferencedFrameNumber
    several = [present] if isinstance(present, int) else list(present)
    item.ReferencedFrameNumber = [*several, frame_number]


# Image SOP Instance Reference Macro (PS3.3 table 10-3) and the Referenced SOP Sequence of SR: those have
# Referenced Frame Number, plain SOP instance references have not.
_NAMES_FRAMES = frozenset({"SourceImageSequence", "ReferencedImageSequence", "ReferencedSOPSequence"})
