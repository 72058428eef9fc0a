"""Secondary Capture key images: what any viewer can show, burned into the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom import sc
from highdicom.enum import CoordinateSystemNames, PhotometricInterpretationValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from covid_ct_mask_net.app.normalise import quiet_writers
from covid_ct_mask_net.app.result_object import ResultObjects
from covid_ct_mask_net.app.source_slices import SourceSlice

_DERIVATION = "Axial slice in the lung window, lesions outlined if there are any; research use only"


def key_images(
    objects: ResultObjects, pictures: Sequence[NDArray[np.uint8]], slices: Sequence[SourceSlice]
) -> tuple[Dataset, ...]:
    """Return one Secondary Capture image a picture.

    Parameters
    ----------
    objects : ResultObjects
        The result and its sources.
    pictures : sequence of NDArray
        RGB uint8 (height, width, 3), without patient data.
    slices : sequence of SourceSlice
        The slice that each picture shows.
    """
    with quiet_writers():
        return tuple(
            _image(objects, picture, source, number)
            for number, (picture, source) in enumerate(zip(pictures, slices, strict=True), start=1)
        )


def _image(objects: ResultObjects, picture: NDArray[np.uint8], source: SourceSlice, number: int) -> Dataset:
    first = objects.sources.first
    image = sc.SCImage(
        pixel_array=picture,
        photometric_interpretation=PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        study_instance_uid=str(first.StudyInstanceUID),
        patient_orientation=("L", "P"),
        **objects.identity("sc", number),
    )
    # An unpaired body part; without one Laterality (Type 2C) is asked for (PS3.3 C.7.3.1).
    image.BodyPartExamined = "CHEST"
    image.BurnedInAnnotation = "NO"
    image.RecognizableVisualFeatures = "NO"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.DerivationDescription = _DERIVATION
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.instance.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.instance.SOPInstanceUID
    if source.frame_number is not None:
        reference.ReferencedFrameNumber = source.frame_number
    image.SourceImageSequence = [reference]
    return objects.finish(image)
