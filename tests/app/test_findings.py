from __future__ import annotations

import numpy as np

from builders.oracle import chest_with_lesions
from builders.result_set import made


def test_lesions_lie_in_the_segmentation_where_they_were_planted() -> None:
    one = made()
    segmentation = one.read("seg.dcm")
    hu = chest_with_lesions()
    frames = segmentation.pixel_array.astype(bool)
    heights = sorted({float(image.ImagePositionPatient[2]) for image in one.images.values()})
    labels = {s.SegmentNumber: s.SegmentLabel for s in segmentation.SegmentSequence}
    found = {name: np.zeros(hu.shape, dtype=bool) for name in labels.values()}
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        height = float(groups.PlanePositionSequence[0].ImagePositionPatient[2])
        found[labels[number]][heights.index(height)] |= frame
    assert len(found) == 2
    planted = {-500.0: hu == -500.0, -200.0: hu == -200.0}
    for mask in found.values():
        value = -500.0 if hu[mask].mean() < -350 else -200.0
        np.testing.assert_array_equal(mask, planted.pop(value))
