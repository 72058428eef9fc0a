from __future__ import annotations

import pytest

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.datasets.names import parse_slice_name


def test_both_spellings_of_a_slice_are_the_same_slice() -> None:
    covidx, original = parse_slice_name("NCP_341_1834_0022.png"), parse_slice_name("2_341_1834_0022.png")
    assert covidx == original
    assert covidx.slice_class is SliceClass.COVID_19
    assert (covidx.patient, covidx.scan, covidx.slice) == ("341", "1834", "0022")
    assert covidx.covidx == "NCP_341_1834_0022.png"
    assert covidx.original == "2_341_1834_0022.png"


def test_segmentation_names_have_a_patient_and_no_class() -> None:
    name = parse_slice_name("110_104.jpg")
    assert (name.patient, name.slice, name.slice_class) == ("110", "104", None)
    with pytest.raises(RefusedInputError, match="no class"):
        _ = name.covidx


@pytest.mark.parametrize(
    ("name", "code"),
    [("slice.png", "NAME_FORMAT"), ("7_1_2_3.png", "SLICE_CLASS"), ("HAP_1_2_3.png", "SLICE_CLASS")],
)
def test_other_names_are_refused(name: str, code: str) -> None:
    with pytest.raises(RefusedInputError, match=name) as caught:
        parse_slice_name(name)
    assert caught.value.code == code
