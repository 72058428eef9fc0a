from __future__ import annotations

import numpy as np
import pytest
from highdicom import pr, sr
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from covid_ct_mask_net.app.graphic_data import PLACEHOLDER, with_points
from covid_ct_mask_net.app.result_object import file_bytes

POINTS = np.array([[0.0, 0.5], [12.0, 0.5], [12.0, 7.25], [0.0, 0.5]])


def _region(points: NDArray[np.float64]) -> sr.ImageRegion:
    return sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=points,
        source_image=sr.SourceImageForRegion(CTImageStorage, "1.2.3"),
    )


def _graphic(points: NDArray[np.float64]) -> pr.GraphicObject:
    return pr.GraphicObject(
        graphic_type=pr.GraphicTypeValues.POLYLINE,
        graphic_data=points,
        units=pr.AnnotationUnitsValues.PIXEL,
        tracking_id="Lesion 1",
        tracking_uid="1.2.4",
    )


@pytest.mark.parametrize("make", [_region, _graphic])
def test_an_item_with_other_points_is_what_highdicom_makes_of_them(make) -> None:  # type: ignore[no-untyped-def]
    template = make(PLACEHOLDER)
    item, made = with_points(template, POINTS), make(POINTS)
    assert type(item) is type(made)
    assert item == made
    assert _encoded(item) == _encoded(made)
    assert template == make(PLACEHOLDER), "the template is as it was"


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        (POINTS[:1], r"\(1, 2\)"),
        (POINTS.ravel(), r"\(8,\)"),
        (POINTS - 1.0, "not negative"),
        (POINTS * np.nan, "finite"),
    ],
)
def test_points_that_are_on_no_image_are_an_error(points: NDArray[np.float64], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        with_points(_region(PLACEHOLDER), points)


def _encoded(item: Dataset) -> bytes:
    holder = Dataset()
    holder.SOPClassUID, holder.SOPInstanceUID = CTImageStorage, "1.2.5"
    holder.file_meta = FileMetaDataset()
    holder.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    holder.GraphicObjectSequence = [item]
    return file_bytes(holder)
