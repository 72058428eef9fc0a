"""What highdicom looks up in its tables again for each frame and each outline, remembered.

Whether an IOD has an attribute is read out of tables of the standard, up to 20 ms each time. It depends on
the SOP class alone, and a study with lesions on 250 slices asks for it some thousand times.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import highdicom.base
import highdicom.sr.content
from highdicom import _standard_utils

# highdicom.content, image, pr and utils ask through functions of the first.
_MODULES = (_standard_utils, highdicom.base, highdicom.sr.content)
_looked_up = _standard_utils.is_attribute_in_iod


@functools.cache
def _remembered(attribute: str, sop_class_uid: str, excluded: tuple[str, ...]) -> bool:
    return _looked_up(attribute, sop_class_uid, excluded or None)


def _is_attribute_in_iod(
    attribute: str, sop_class_uid: str, exclude_path_elements: Sequence[str] | None = None
) -> bool:
    return _remembered(attribute, sop_class_uid, tuple(exclude_path_elements or ()))


@contextmanager
def remembered_lookups() -> Iterator[None]:
    """Let highdicom remember, while it writes, which attributes the IODs of SOP classes have."""
    name = _looked_up.__name__
    for module in _MODULES:
        setattr(module, name, _is_attribute_in_iod)
    try:
        yield
    finally:
        for module in _MODULES:
            setattr(module, name, _looked_up)
