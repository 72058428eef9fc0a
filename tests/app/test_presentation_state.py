from __future__ import annotations

from builders.result_set import made


def test_outlines_lie_on_their_images() -> None:
    one = made()
    state = one.read("gsps.dcm")
    annotated = {
        reference.ReferencedSOPInstanceUID
        for annotation in state.GraphicAnnotationSequence
        for reference in annotation.ReferencedImageSequence
    }
    assert len(annotated) == 7  # slices with a lesion
    assert annotated <= set(one.images)
    for annotation in state.GraphicAnnotationSequence:
        for drawn in annotation.GraphicObjectSequence:
            assert max(drawn.GraphicData) <= 97
