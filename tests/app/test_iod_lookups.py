from __future__ import annotations

import highdicom.content
import pytest
from highdicom._standard_utils import does_iod_have_pixel_data
from pydicom.uid import Comprehensive3DSRStorage, CTImageStorage

from covid_ct_mask_net.app.iod_lookups import remembered_lookups


def test_answers_are_those_of_the_tables_and_asked_for_once() -> None:
    with remembered_lookups():
        remembered = highdicom.content.does_iod_have_pixel_data
        for _ in range(2):
            for sop_class in (CTImageStorage, Comprehensive3DSRStorage):
                assert remembered(sop_class) == does_iod_have_pixel_data(sop_class)
        assert remembered.cache_info().hits >= 2


def test_nothing_is_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="stop"), remembered_lookups():
        raise ValueError("stop")
    assert highdicom.content.does_iod_have_pixel_data is does_iod_have_pixel_data
