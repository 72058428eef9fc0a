"""One series taken apart into stacks of slices that can be a volume each.

A series may hold a localizer among its slices, derived images, or two acquisitions under one Series
Instance UID. Splitting is done only where attributes tell the parts apart; what cannot be told apart is
ambiguous and never mixed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from covid_ct_mask_net.app import headers
from covid_ct_mask_net.app.frames import frames_of_instance
from covid_ct_mask_net.app.geometry import GeometryRules, plane_normal
from covid_ct_mask_net.app.intake import Instance, Series
from covid_ct_mask_net.results import Reason

# Words of Image Type (0008,0008) that say that an image is not one slice of the acquisition.
_NOT_SLICES = frozenset(
    {
        "LOCALIZER", "MPR", "REFORMATTED", "PROJECTION IMAGE", "MIP", "MINIP", "MNIP", "VRT",
        "MAX_IP", "MIN_IP",
        "SECONDARY", "SCREEN SAVE", "DOSE_INFO", "AVERAGE", "SSD", "BONEMIP", "COLLAGE", "VOLUME RENDERED",
    }
)  # fmt: skip
# What tells acquisitions of one series apart, tried in this order.
_SEPARATORS = (
    "AcquisitionNumber",
    "AcquisitionTime",
    "TemporalPositionIdentifier",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "KVP",
    "SliceThickness",
)
# Written by hand or by a device: 1.25 and 1.250 are one thickness.
_NUMBERS = frozenset({"KVP", "SliceThickness"})
_MOST_ACQUISITIONS = 8


@dataclass(frozen=True, eq=False)
class Stack:
    """A part of a series that may become a volume, or the reason why it may not.

    ``series`` holds the instances of the stack under the UID of their series.
    """

    series: Series
    notes: tuple[Reason, ...] = ()
    refusal: Reason | None = None


def stacks_of(series: Series, rules: GeometryRules, *, derived: bool = False) -> tuple[Stack, ...]:
    """Return the stacks of a series, or one stack with the reason why there is none.

    Parameters
    ----------
    series : Series
        Any series, CT or not.
    rules : GeometryRules
        What counts as axial.
    derived : bool
        Whether images that call themselves DERIVED are accepted beside ORIGINAL ones.
    """
    images = [instance for instance in series.instances if headers.is_ct_image(instance.header)]
    if not images:
        return (
            Stack(series, refusal=Reason("NOT_CT", f"The series is not CT images but {series.modality}.")),
        )
    if series.conflict is not None:
        return (Stack(series, refusal=series.conflict),)
    slices = [image for image in images if _is_slice(image, derived)]
    axial = [image for image in slices if _is_axial(image, rules)]
    if not axial:
        what = "original axial slices" if not slices else "axial slices"
        found = (
            "localizers, reformatted or otherwise derived images"
            if not slices
            else "coronal, sagittal or oblique"
        )
        code = "NOT_ORIGINAL_AXIAL" if not slices else "NOT_AXIAL"
        return (Stack(series, refusal=Reason(code, f"The series holds no {what}; its images are {found}.")),)
    notes = list(series.notes)
    if left_out := len(series.instances) - len(axial):
        notes.append(
            Reason(
                "IMAGES_SET_ASIDE",
                f"{left_out} image(s) of the series are no original axial slices and were left out.",
            )
        )
    return tuple(
        replace(stack, notes=(*notes, *stack.notes))
        for stack in _split(replace(series, instances=tuple(axial)))
    )


def _is_slice(image: Instance, derived: bool) -> bool:
    kind = [value.upper() for value in headers.text(image.header, "ImageType")]
    words = {word for value in kind for word in (value, *value.split())} - (
        {"SECONDARY"} if derived else set()
    )
    # Absent Image Type is malformed but says nothing against the image; its geometry decides.
    original = not kind or kind[0] == "ORIGINAL" or (derived and kind[0] == "DERIVED")
    return original and not words & _NOT_SLICES


def _is_axial(image: Instance, rules: GeometryRules) -> bool:
    """Tell whether a slice is axial; without an orientation it stays in, for the geometry to decline."""
    normal = plane_normal(frames_of_instance(image)[0].header)
    return normal is None or bool(abs(normal[2]) >= np.cos(np.radians(rules.axial_degrees)))


def _split(series: Series) -> tuple[Stack, ...]:
    enhanced = [image for image in series.instances if image.header.SOPClassUID in headers.ENHANCED_CT]
    if enhanced:
        # Each multi-frame image is an acquisition of its own; a large one may lie in several instances.
        return tuple(
            _concatenation(series, parts) if uid else Stack(replace(series, instances=tuple(parts)))
            for uid, parts in _by_concatenation(series.instances)
        )
    regular = not _overlaps(series.instances) and _uniform(series.instances)
    for separator in _SEPARATORS:
        parts = _parts(series.instances, separator)
        # Without a flaw, parts one behind the other are rotations of one acquisition; parts that lie among
        # each other are several acquisitions even where no two slices share a position.
        if _separable(parts) and not (regular and not _interleaved(parts)):
            note = Reason(
                "SERIES_SPLIT",
                f"The series holds {len(parts)} acquisitions, told apart by {separator}; this is one.",
            )
            return tuple(Stack(replace(series, instances=tuple(part)), notes=(note,)) for part in parts)
    if not regular and _overlaps(series.instances) > 0.5:
        return (
            Stack(
                series,
                refusal=Reason(
                    "AMBIGUOUS_SERIES",
                    "Most positions of the series hold several slices and no attribute tells them apart.",
                ),
            ),
        )
    # A few duplicates, or slices that differ: the geometry verdict names them.
    return (Stack(series),)


def _by_concatenation(instances: Sequence[Instance]) -> list[tuple[str, list[Instance]]]:
    """Return the parts of each concatenation under its UID, and what belongs to none alone under ""."""
    concatenations: defaultdict[str, list[Instance]] = defaultdict(list)
    alone: list[tuple[str, list[Instance]]] = []
    for instance in instances:
        uid = "".join(headers.text(instance.header, "ConcatenationUID"))
        if uid and instance.header.SOPClassUID in headers.ENHANCED_CT:
            concatenations[uid].append(instance)
        else:
            alone.append(("", [instance]))
    return [*((uid, concatenations[uid]) for uid in sorted(concatenations)), *alone]


def _concatenation(series: Series, parts: Sequence[Instance]) -> Stack:
    """Return the parts of one multi-frame image in their order as one stack (PS3.3 C.7.6.16.2.2.4).

    With a part missing it is refused: what is left may be any piece of the chest.
    """
    numbers = [headers.number(part.header, "InConcatenationNumber") for part in parts]
    totals = {headers.number(part.header, "InConcatenationTotalNumber") for part in parts} - {None}
    ordered = tuple(part for _, part in sorted(zip(map(_or_zero, numbers), parts, strict=True), key=_first))
    stack = Stack(replace(series, instances=ordered))
    expected = int(_or_zero(max(totals, key=_or_zero))) if totals else len(parts)
    if sorted(map(_or_zero, numbers)) != list(range(1, expected + 1)) or len(totals) > 1:
        return _incomplete(stack, f"{len(parts)} of {expected} numbered parts")
    begin = 0
    for number, part in enumerate(ordered, start=1):
        offset = headers.number(part.header, "ConcatenationFrameOffsetNumber")
        if offset is not None and offset != begin:
            return _incomplete(stack, f"{begin} frames ahead of part {number}, which begins at {offset:.0f}")
        begin += int(headers.number(part.header, "NumberOfFrames") or 1)
    told = "" if totals else " Whether more belong to it is not told."
    note = Reason("CONCATENATION", f"The image lies in {len(parts)} instances, read as one.{told}")
    return replace(stack, notes=(note,))


def _incomplete(stack: Stack, found: str) -> Stack:
    reason = Reason(
        "CONCATENATION_INCOMPLETE",
        "The image lies in several instances (a concatenation), and not all of them are here: found are "
        f"{found}. Send the whole series.",
    )
    return replace(stack, refusal=reason)


def _or_zero(number: float | None) -> float:
    return 0.0 if number is None else number


def _first(numbered: tuple[float, Instance]) -> float:
    return numbered[0]


def _separable(parts: Sequence[Sequence[Instance]]) -> bool:
    """Tell whether these parts are acquisitions: each a stack, and few enough not to be single rotations."""
    whole = all(len(part) > 1 and not _overlaps(part) and _uniform(part) for part in parts)
    return 1 < len(parts) <= _MOST_ACQUISITIONS and whole


def _parts(instances: Sequence[Instance], keyword: str) -> list[list[Instance]]:
    grouped: defaultdict[tuple[str, ...], list[Instance]] = defaultdict(list)
    for instance in instances:
        grouped[_value(instance, keyword)].append(instance)
    return [grouped[key] for key in sorted(grouped)]


def _value(instance: Instance, keyword: str) -> tuple[str, ...]:
    number = headers.number(instance.header, keyword) if keyword in _NUMBERS else None
    return headers.text(instance.header, keyword) if number is None else (f"{number:.2f}",)


def _interleaved(parts: Sequence[Sequence[Instance]]) -> bool:
    """Tell whether a part begins along the table before the one below it ends."""
    ranges = sorted((min(places), max(places)) for part in parts if (places := _places(part)))
    return any(begin < end for (_, end), (begin, _) in pairwise(ranges))


def _overlaps(instances: Sequence[Instance]) -> float:
    """Return the share of positions along the table that hold more than one slice."""
    places = Counter(_places(instances))
    return sum(count > 1 for count in places.values()) / len(places) if places else 0.0


def _places(instances: Sequence[Instance]) -> list[float]:
    """Return the positions along the table to a tenth of a millimetre, of the slices that have one."""
    return [
        round(position[2], 1)
        for instance in instances
        if (position := headers.numbers(instance.header, "ImagePositionPatient", 3)) is not None
    ]


def _uniform(instances: Sequence[Instance]) -> bool:
    """Tell whether all slices have one size, pixel spacing and orientation."""
    return all(len({describe(instance) for instance in instances}) == 1 for describe in _DESCRIPTIONS)


def _rounded(keyword: str, count: int, digits: int) -> Callable[[Instance], tuple[float, ...] | None]:
    def describe(instance: Instance) -> tuple[float, ...] | None:
        values = headers.numbers(instance.header, keyword, count)
        return None if values is None else tuple(round(value, digits) + 0.0 for value in values)

    return describe


_DESCRIPTIONS: tuple[Callable[[Instance], object], ...] = (
    lambda instance: (int(instance.header.Rows), int(instance.header.Columns)),
    _rounded("PixelSpacing", 2, 3),
    _rounded("ImageOrientationPatient", 6, 2),
)
