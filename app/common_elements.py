"""Headers of a series differ in a few elements only; what they have in common is kept in memory once."""

from __future__ import annotations

from collections.abc import Hashable

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset


class CommonElements:
    """Elements that many headers have, kept in memory once.

    The headers of a series differ in a few elements only, and a run begins with those of all its studies in
    memory.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, RawDataElement] = {}

    def share(self, header: Dataset) -> None:
        """Replace the elements of a header, as read, by equal ones that were seen before."""
        for tag in list(header.keys()):
            # pydicom would decode private elements on their way back, and those that are read late here.
            element = header.get_item(tag, keep_deferred=True)
            if tag.is_private or not isinstance(element, RawDataElement) or element.value is None:
                continue
            name = (tag, element.VR, element.value, element.is_implicit_VR, element.is_little_endian)
            header[tag] = self._known.setdefault(name, element)
