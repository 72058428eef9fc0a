"""The DICOM Segmentation of a study: ground-glass opacity and consolidation, voxel by voxel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from highdicom import AlgorithmIdentificationSequence, PixelMeasuresSequence, color, seg
from highdicom.content import PlanePositionSequence
from highdicom.enum import CoordinateSystemNames
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import DS

from covid_ct_mask_net import RESEARCH_NOTICE, __version__
from covid_ct_mask_net.app import codes
from covid_ct_mask_net.app.normalise import quiet_writers
from covid_ct_mask_net.app.result_object import MODEL_NAME, ResultObjects
from covid_ct_mask_net.app.source_slices import SourceSlice, restore_references
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.reduction import enlarged
from covid_ct_mask_net.results import ModelReport

# PS3.5 6.2: trailing caret, or dciodvfy takes it for a retired form of Person Name.
_CREATOR = f"{MODEL_NAME}^"
_COLOURS = {
    LesionClass.GROUND_GLASS_OPACITY: color.CIELabColor(85.0, -5.0, 75.0),
    LesionClass.CONSOLIDATION: color.CIELabColor(60.0, 80.0, -40.0),
}


@dataclass(frozen=True)
class Segment:
    """One segment: all lesions of a class. ``volume_ml`` is that of the voxels in the segmentation."""

    number: int
    lesion_class: LesionClass
    tracking_id: str
    tracking_uid: str
    volume_ml: float


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A DICOM Segmentation and what a report says about it.

    Attributes
    ----------
    dataset
        The object.
    segments
        In the order of their numbers; a class without lesions has none.
    source_series_uid
        Series that was segmented.
    """

    dataset: Dataset
    segments: tuple[Segment, ...]
    source_series_uid: str


def segment_lesions(
    objects: ResultObjects,
    labels: NDArray[np.uint8],
    slices: Mapping[int, SourceSlice],
    voxel_ml: float,
    *,
    reduction: int = 1,
) -> Segmentation | None:
    """Return the segmentation of the lesions, or None if no slice that was read has any.

    Only slices with a lesion become frames. Where lesions of both classes overlap, a voxel is in the segment
    that ``labels`` gives it to.

    Parameters
    ----------
    objects : ResultObjects
        The result and its sources.
    labels : NDArray
        uint8, shape (columns, rows, slices): 0 none, 1 ground-glass opacity, 2 consolidation.
    slices : mapping
        Slices that were read, by place, in one frame of reference.
    voxel_ml : float
        Volume of a voxel.
    reduction : int
        Side of the blocks of source pixels that a label stands for. The frames have the matrix of the source.
    """
    planes = labels.transpose(2, 1, 0)
    marked = [place for place in sorted(slices) if planes[place].any()]
    if not marked:
        return None
    pixels = np.stack([planes[place] for place in marked])
    counts = {lesion_class: np.count_nonzero(pixels == lesion_class) for lesion_class in LesionClass}
    present = [lesion_class for lesion_class in LesionClass if counts[lesion_class]]
    segments = tuple(
        Segment(
            number=number,
            lesion_class=lesion_class,
            tracking_id=f"All {lesion_class.label.lower()}",
            tracking_uid=objects.uids.tracking(f"segment {lesion_class.name}"),
            volume_ml=round(float(counts[lesion_class] * voxel_ml), 4),
        )
        for number, lesion_class in enumerate(present, start=1)
    )
    if present != list(LesionClass):
        # One class alone: its segment is the first, whichever it is.
        pixels = (pixels != 0).astype(np.uint8)
    with quiet_writers():
        images = [_with_matrix(slices[place].image, pixels.shape[1:]) for place in marked]
        dataset = _dataset(objects, pixels, segments, images)
        if reduction > 1:
            first = slices[marked[0]].image
            enlarge_frames(dataset, reduction, int(first.Rows), int(first.Columns))
        restore_references(dataset, slices)
    return Segmentation(dataset, segments, str(slices[marked[0]].image.SeriesInstanceUID))


def _dataset(
    objects: ResultObjects,
    pixels: NDArray[np.uint8],
    segments: tuple[Segment, ...],
    images: list[Dataset],
) -> Dataset:
    first = images[0]
    thickness = float(first.get("SliceThickness") or _thickness(objects))
    # Type 2 in CT images; highdicom asks the first one for it, whatever measures it is given.
    first.SliceThickness = DS(thickness, auto_format=True)
    dataset = seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(segment, objects.result.model) for segment in segments],
        content_label="LESIONS",
        content_description=RESEARCH_NOTICE[:64].rstrip(),
        content_creator_name=_CREATOR,
        pixel_measures=PixelMeasuresSequence(
            pixel_spacing=[float(value) for value in first.PixelSpacing],
            slice_thickness=thickness,
        ),
        plane_positions=[
            PlanePositionSequence(
                CoordinateSystemNames.PATIENT, [float(v) for v in image.ImagePositionPatient]
            )
            for image in images
        ],
        **objects.identity("seg"),
    )
    # highdicom makes this one up.
    organization = objects.uids.instance("dimension organization")
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return objects.finish(dataset)


def _with_matrix(image: Dataset, shape: tuple[int, ...]) -> Dataset:
    """Return a source image that has the matrix of a label map, for highdicom to find them alike."""
    if (int(image.Rows), int(image.Columns)) == shape:
        return image
    # Elements are shared with the source image: new ones, not new values.
    alike = Dataset()
    alike.update(image)
    for keyword, side in zip(("Rows", "Columns"), shape, strict=True):
        alike.add_new(keyword, "US", side)
    return alike


def enlarge_frames(dataset: Dataset, factor: int, rows: int, columns: int) -> None:
    """Bring a binary segmentation to a larger matrix, frame by frame: all of them would not fit in memory.

    Parameters
    ----------
    dataset : Dataset
        Segmentation with one bit a pixel, changed in place.
    factor : int
        A pixel becomes a block of this side.
    rows, columns : int
        Matrix that is wanted; blocks are cut off where they reach beyond.
    """
    small = (int(dataset.Rows), int(dataset.Columns))
    packed, size = np.frombuffer(dataset.PixelData, dtype=np.uint8), math.prod(small)
    larger, rest = bytearray(), np.zeros(0, dtype=np.uint8)
    for first in range(0, size * int(dataset.NumberOfFrames), size):
        # Frames follow each other without padding (PS3.5 section 8.1.1), from the lowest bit of each byte.
        piece = np.unpackbits(packed[first // 8 : -(-(first + size) // 8)], bitorder="little")
        frame = piece[first % 8 : first % 8 + size].reshape(small)
        bits = np.concatenate([rest, enlarged(frame, (factor, factor), (rows, columns)).ravel()])
        whole = len(bits) - len(bits) % 8
        larger += np.packbits(bits[:whole], bitorder="little").tobytes()
        rest = bits[whole:]
    larger += np.packbits(rest, bitorder="little").tobytes()
    dataset.PixelData = bytes(larger + bytes(len(larger) % 2))
    dataset.Rows, dataset.Columns = rows, columns


def _thickness(objects: ResultObjects) -> float:
    """Return the distance between slices, where the source does not say how thick they are."""
    geometry = objects.result.geometry
    return 0.0 if geometry is None else geometry.spacing_mm[2]


def _description(segment: Segment, model: ModelReport | None) -> seg.SegmentDescription:
    return seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.lesion_class.label,
        segmented_property_category=codes.MORPHOLOGICALLY_ABNORMAL,
        segmented_property_type=codes.LESION_CODES[segment.lesion_class],
        algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=MODEL_NAME if model is None else model.name,
            family=codes.ARTIFICIAL_INTELLIGENCE,
            version=__version__ if model is None else model.version,
        ),
        tracking_uid=segment.tracking_uid,
        tracking_id=segment.tracking_id,
        anatomic_regions=[codes.LUNG],
        display_color=_COLOURS[segment.lesion_class],
    )
