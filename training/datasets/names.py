"""Names of slices in the published lists, and what they say about patient, scan and class."""

from __future__ import annotations

import re
from dataclasses import dataclass

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.labels import SliceClass

# COVIDx-CT v1 prefixes; the paper's list writes the class id instead.
COVIDX_PREFIXES = {
    "Normal": SliceClass.CONTROL,
    "CP": SliceClass.COMMON_PNEUMONIA,
    "NCP": SliceClass.COVID_19,
}
_PREFIX_OF = {value: name for name, value in COVIDX_PREFIXES.items()}
_CLASSIFICATION = re.compile(r"(?P<prefix>[A-Za-z]+|\d)_(?P<patient>\d+)_(?P<scan>\d+)_(?P<slice>\d+)")
_SEGMENTATION = re.compile(r"(?P<patient>\d+)_(?P<slice>\d+)")


@dataclass(frozen=True, order=True)
class SliceName:
    """What the name of a slice says.

    Attributes
    ----------
    patient, scan
        Identifiers of the collection; the scan is the patient in segmentation names, which have none.
    slice
        Number in the scan, with the zeros that the name has.
    slice_class
        None in segmentation names.
    """

    patient: str
    scan: str
    slice: str
    slice_class: SliceClass | None = None

    @property
    def covidx(self) -> str:
        """Name in COVIDx-CT v1: ``NCP_341_1834_0022.png``."""
        return f"{_PREFIX_OF[self.known_class()]}_{self.patient}_{self.scan}_{self.slice}.png"

    @property
    def original(self) -> str:
        """Name in the paper's lists: ``2_341_1834_0022.png``."""
        return f"{int(self.known_class())}_{self.patient}_{self.scan}_{self.slice}.png"

    def known_class(self) -> SliceClass:
        """Return the class.

        Raises
        ------
        RefusedInputError
            If the name has none.
        """
        if self.slice_class is None:
            raise RefusedInputError(
                "NAME_FORMAT", f"Slice {self.slice} of patient {self.patient} has no class in its name."
            )
        return self.slice_class


def parse_slice_name(name: str) -> SliceName:
    """Read ``Class_Patient_Scan_Slice.png`` (class by name or id) or ``Patient_Slice.jpg``.

    Raises
    ------
    RefusedInputError
        If the name has neither form, or a class that the paper does not have.
    """
    stem = name.rsplit(".", 1)[0]
    if match := _CLASSIFICATION.fullmatch(stem):
        return SliceName(match["patient"], match["scan"], match["slice"], _class_of(match["prefix"], name))
    if match := _SEGMENTATION.fullmatch(stem):
        return SliceName(match["patient"], match["patient"], match["slice"])
    raise RefusedInputError(
        "NAME_FORMAT",
        f"The name {name!r} is neither Class_Patient_Scan_Slice (class 0, 1, 2 or "
        f"{', '.join(COVIDX_PREFIXES)}) nor Patient_Slice.",
    )


def _class_of(prefix: str, name: str) -> SliceClass:
    if prefix in COVIDX_PREFIXES:
        return COVIDX_PREFIXES[prefix]
    if prefix.isdigit() and int(prefix) < len(SliceClass):
        return SliceClass(int(prefix))
    raise RefusedInputError(
        "SLICE_CLASS",
        f"The name {name!r} begins with class {prefix!r}, but 0, 1, 2 or "
        f"{', '.join(COVIDX_PREFIXES)} was expected.",
    )
