"""The segmentation, from labels in the order of the source's axes."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from builders.result_set import made
from covid_ct_mask_net.app.segmentation import enlarge_frames, segment_lesions
from covid_ct_mask_net.app.source_slices import source_slices
from covid_ct_mask_net.labels import LesionClass

GGO, CONSOLIDATION = LesionClass.GROUND_GLASS_OPACITY, LesionClass.CONSOLIDATION


@pytest.mark.parametrize("present", [(GGO, CONSOLIDATION), (GGO,), (CONSOLIDATION,)])
def test_each_class_that_is_present_is_a_segment(present: tuple[LesionClass, ...]) -> None:
    one = made()
    headers = list(one.images.values())
    slices = source_slices(one.sources, headers, [None] * len(headers))
    rows, columns = int(headers[0].Rows), int(headers[0].Columns)
    random = np.random.default_rng(3)
    labels = np.zeros((columns, rows, len(headers)), dtype=np.uint8)
    marked = [2, 3, 6]
    labels[:, :, marked] = random.choice([0, *present], size=(columns, rows, len(marked)))
    before = labels.copy()
    result = segment_lesions(one.objects, labels, slices, voxel_ml=0.5)
    assert result is not None
    assert np.array_equal(labels, before)
    assert [(s.number, s.lesion_class) for s in result.segments] == list(enumerate(present, start=1))
    for segment in result.segments:
        expected = labels == segment.lesion_class
        assert segment.volume_ml == round(float(expected.sum()) * 0.5, 4)
        for place in marked:
            assert np.array_equal(
                _frame(result.dataset, segment.number, slices[place].image), expected[:, :, place].T
            )
    assert int(result.dataset.NumberOfFrames) == len(present) * len(marked)


def _frame(dataset, number: int, image) -> np.ndarray:  # type: ignore[no-untyped-def, type-arg]
    """Return the frame of a segment at the position of an image."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame, pixels in zip(dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array, strict=True):
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        # Shared by all frames where there is one segment.
        groups = frame if "SegmentIdentificationSequence" in frame else shared
        of_segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
        if of_segment and list(position) == list(image.ImagePositionPatient):
            return pixels.astype(bool)
    raise AssertionError("no frame of this segment lies where the image does")


def test_labels_without_a_lesion_give_no_segmentation() -> None:
    one = made()
    headers = list(one.images.values())
    slices = source_slices(one.sources, headers, [None] * len(headers))
    labels = np.zeros((int(headers[0].Columns), int(headers[0].Rows), len(headers)), dtype=np.uint8)
    assert segment_lesions(one.objects, labels, slices, voxel_ml=0.5) is None


@pytest.mark.parametrize(
    ("small", "factor", "shape"),
    [((3, 5), 2, (6, 10)), ((3, 5), 2, (5, 9)), ((4, 4), 2, (8, 8)), ((3, 3), 3, (7, 7))],
)
def test_each_pixel_becomes_a_block_whatever_the_byte_that_it_lies_in(
    small: tuple[int, int], factor: int, shape: tuple[int, int]
) -> None:
    frames = np.random.default_rng(2).integers(0, 2, (5, *small), dtype=np.uint8)
    dataset = Dataset()
    dataset.Rows, dataset.Columns = small
    dataset.NumberOfFrames = len(frames)
    dataset.add_new("PixelData", "OB", np.packbits(frames.ravel(), bitorder="little").tobytes())
    enlarge_frames(dataset, factor, *shape)
    expected = np.kron(frames, np.ones((1, factor, factor), dtype=np.uint8))[:, : shape[0], : shape[1]]
    assert (dataset.Rows, dataset.Columns) == shape
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    np.testing.assert_array_equal(bits[: expected.size], expected.ravel())
    assert not bits[expected.size :].any()
    assert len(dataset.PixelData) == -(-expected.size // 16) * 2
