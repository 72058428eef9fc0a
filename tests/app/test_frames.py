from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from builders.dicom import make_ct_series, make_enhanced_ct, phantom_hu
from covid_ct_mask_net.app import intake
from covid_ct_mask_net.app.frames import frames_of
from covid_ct_mask_net.app.limits import Limits


def series_in(folder: Path) -> intake.Series:
    return intake.scan([folder]).studies[0].series[0]


def test_a_single_frame_image_is_its_own_frame(tmp_path: Path) -> None:
    make_ct_series(tmp_path, hu=phantom_hu((2, 80, 64)))
    series = series_in(tmp_path)
    frames = frames_of(series)
    assert [frame.instance for frame in frames] == list(series.instances)
    assert all(frame.header is frame.instance.header and frame.number is None for frame in frames)


def test_functional_groups_become_the_headers_of_frames(tmp_path: Path) -> None:
    make_enhanced_ct(tmp_path)
    frames = frames_of(series_in(tmp_path))
    hu = phantom_hu()
    assert [frame.number for frame in frames] == list(range(1, 21))
    # The builder stores the frames from superior to inferior.
    assert [float(frame.header.ImagePositionPatient[2]) for frame in frames] == [
        45.0 - 5 * k for k in range(20)
    ]
    assert frames[0].header.PixelSpacing == [2.0, 2.5]
    assert frames[0].header.RescaleSlope == 2.0
    assert "PerFrameFunctionalGroupsSequence" not in frames[0].header
    for frame, expected in zip(frames, hu[::-1], strict=True):
        np.testing.assert_array_equal(frame.decode(Limits()), expected)


def test_a_frames_own_group_wins_over_the_shared_one(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        own = Dataset()
        own.RescaleSlope, own.RescaleIntercept = 1.0, 0.0
        dataset.PerFrameFunctionalGroupsSequence[3].PixelValueTransformationSequence = [own]

    make_enhanced_ct(tmp_path, edit=edit)
    assert [float(f.header.RescaleSlope) for f in frames_of(series_in(tmp_path))[2:5]] == [2.0, 1.0, 2.0]


def test_a_missing_group_leaves_its_attributes_out(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        del dataset.PerFrameFunctionalGroupsSequence[-1]

    make_enhanced_ct(tmp_path, edit=edit)
    last = frames_of(series_in(tmp_path))[-1]
    assert "ImagePositionPatient" not in last.header
    assert last.header.PixelSpacing == [2.0, 2.5]
