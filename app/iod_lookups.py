"""What highdicom looks up in its tables of IODs: remembered, and done without where a class is in none.

Whether an IOD has an attribute is read out of tables of the standard, up to 20 ms each time. It depends on
the SOP class alone, and a study with lesions on 250 slices asks for it some thousand times.

Which attributes belong to patient and study is looked up by the SOP class of the first instance, and there
are studies of private and retired classes only. The modules are the same in every composite IOD (PS3.3
A.1.4), so that those of CT images stand for them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import highdicom.base
import highdicom.sr.content
from highdicom import SOPClass, _standard_utils
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

# highdicom.content, image, pr and utils ask through functions of the first.
_MODULES = (_standard_utils, highdicom.base, highdicom.sr.content)
_looked_up = _standard_utils.is_attribute_in_iod
_copy_patient_and_study = SOPClass.copy_patient_and_study_information


def load_tables() -> None:
    """Read the tables ahead of the first report, which otherwise waits half a second for them."""
    _standard_utils.get_sop_class_iod_map()
    _standard_utils.get_iod_module_map()
    _standard_utils.get_module_attribute_map()


@functools.cache
def _remembered(attribute: str, sop_class_uid: str, excluded: tuple[str, ...]) -> bool:
    return _looked_up(attribute, sop_class_uid, excluded or None)


def _is_attribute_in_iod(
    attribute: str, sop_class_uid: str, exclude_path_elements: Sequence[str] | None = None
) -> bool:
    return _remembered(attribute, sop_class_uid, tuple(exclude_path_elements or ()))


def _copy_from_any_class(result: SOPClass, source: Dataset) -> None:
    if source.SOPClassUID not in _standard_utils.get_sop_class_iod_map():
        known = Dataset()
        known.update(source)
        # A new element: the old one is the source's too.
        known.add_new("SOPClassUID", "UI", CTImageStorage)
        source = known
    _copy_patient_and_study(result, source)


@contextmanager
def remembered_lookups() -> Iterator[None]:
    """Let highdicom remember, while it writes, which attributes IODs have, and copy from any SOP class."""
    name = _looked_up.__name__
    for module in _MODULES:
        setattr(module, name, _is_attribute_in_iod)
    try:
        with patch.object(SOPClass, _copy_patient_and_study.__name__, _copy_from_any_class):
            yield
    finally:
        for module in _MODULES:
            setattr(module, name, _looked_up)
