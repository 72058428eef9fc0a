from __future__ import annotations

from pathlib import Path

from builders.dicom import make_ct_series
from builders.oracle import SPACING, chest_with_lesions
from covid_ct_mask_net.app import intake, volume
from covid_ct_mask_net.app.normalise import normalise
from covid_ct_mask_net.app.source_slices import has_frame_of_reference, source_slices


def load(folder: Path, **properties: object):
    make_ct_series(folder, hu=chest_with_lesions(), spacing=SPACING, **properties)
    study = intake.scan([folder]).studies[0]
    loaded = volume.load(study.series[0])
    sources = normalise(loaded.headers, study.study_instance_uid)
    return loaded, source_slices(sources, loaded.headers, loaded.frame_numbers)


def test_slices_that_were_interpolated_are_not_there(tmp_path: Path) -> None:
    loaded, slices = load(tmp_path, missing_slices=(20,))
    assert loaded.image.shape[-1] == 40
    assert sorted(slices) == [k for k in range(40) if k != 20]
    for place, one in slices.items():
        header = loaded.headers[place]
        assert header is not None
        assert one.image.SOPInstanceUID == header.SOPInstanceUID
    assert has_frame_of_reference(slices.values())


def test_a_source_without_frame_of_reference(tmp_path: Path) -> None:
    _, slices = load(tmp_path, without=("FrameOfReferenceUID",))
    assert not has_frame_of_reference(slices.values())
