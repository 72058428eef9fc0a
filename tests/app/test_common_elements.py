"""Elements that headers have in common."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from builders.dicom import make_ct_series, phantom_hu
from covid_ct_mask_net.app.common_elements import CommonElements
from covid_ct_mask_net.app.headers import read
from covid_ct_mask_net.app.limits import Limits


def test_elements_that_headers_have_in_common_are_kept_once(tmp_path: Path) -> None:
    def private(_: int, dataset: Dataset) -> None:
        dataset.private_block(0x0021, "MAKER", create=True).add_new(1, "LO", "a word of its maker")

    make_ct_series(tmp_path, hu=phantom_hu((3, 80, 64)), edit=private)
    plain, shared = ([read(path, Limits()) for path in sorted(tmp_path.glob("*.dcm"))] for _ in "ab")
    common = CommonElements()
    for header in shared:
        common.share(header)
    first, second = (header.get_item("StudyDate") for header in shared[:2])
    assert isinstance(first, RawDataElement)
    assert first is second
    assert isinstance(shared[0].get_item((0x0021, 0x1001)), RawDataElement), "private elements stay as read"
    assert shared == plain
    assert shared[0].ImagePositionPatient != shared[1].ImagePositionPatient
    shared[0].StudyDate = "19000101"
    assert shared[1].StudyDate == plain[1].StudyDate, "what is changed is no longer common"
