"""The few slices that show most of what was found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.results import SliceReport
from covid_ct_mask_net.triage.lesions import LinkedLesion, slice_masks


@dataclass(frozen=True)
class KeySlice:
    """A slice to look at.

    Attributes
    ----------
    slice_index
        Canonical index.
    lesions
        Numbers of the lesions on it, largest on the slice first.
    reason
        Why it was chosen, in words.
    """

    slice_index: int
    lesions: tuple[int, ...]
    reason: str


def choose_key_slices(
    linked: Sequence[LinkedLesion], seen: Collection[int], most: int
) -> tuple[KeySlice, ...]:
    """Return at most ``most`` slices with lesions, in the order of the lesions that they were chosen for.

    Each lesion in turn, the most voluminous first, asks for the slice where it is largest, unless that slice
    or a neighbour of it shows the lesion already.

    Parameters
    ----------
    linked : sequence of LinkedLesion
        In the order of their numbers.
    seen : collection of int
        Canonical indices of slices that were read.
    most : int
        Number of slices.
    """
    areas: dict[int, dict[int, int]] = {}
    for number, lesion in enumerate(linked, start=1):
        for index, (_, mask) in slice_masks(lesion).items():
            if index in seen:
                areas.setdefault(index, {})[number] = int(mask.sum())
    chosen: dict[int, str] = {}
    for number in range(1, len(linked) + 1):
        own = {index: area[number] for index, area in areas.items() if number in area}
        if len(chosen) >= most or not own:
            continue
        largest = min(own, key=lambda index: (-own[index], index))
        # What a chosen slice shows to nine tenths needs no slice of its own.
        if not any(own.get(index, 0) >= 0.9 * own[largest] for index in chosen):
            chosen[largest] = f"lesion {number} is largest here"
    return tuple(
        KeySlice(index, tuple(sorted(areas[index], key=lambda n: (-areas[index][n], n))), reason)
        for index, reason in chosen.items()
    )


def suspicious_slices(
    slices: Sequence[SliceReport], indices: Sequence[int], seen: Collection[int], most: int
) -> tuple[KeySlice, ...]:
    """Return the slices least like Control, to show a study without lesions; the least like it first.

    A tenth of the slices lie between two of them, so that they are not one finding seen three times.

    Parameters
    ----------
    slices : sequence of SliceReport
        Of the result.
    indices : sequence of int
        Canonical index of each.
    seen : collection of int
        Canonical indices of slices that were read.
    most : int
        Number of slices.
    """
    read = [pair for pair in zip(slices, indices, strict=True) if pair[1] in seen]
    apart = max(1, len(read) // 10)
    chosen: list[KeySlice] = []
    for report, index in sorted(read, key=lambda pair: (pair[0].probabilities[SliceClass.CONTROL], pair[1])):
        if len(chosen) < most and all(abs(index - other.slice_index) > apart for other in chosen):
            probability = 1.0 - report.probabilities[SliceClass.CONTROL]
            which = "highest probability" if not chosen else "high probability"
            chosen.append(KeySlice(index, (), f"{which} of disease ({probability:.0%}); no lesion outlined"))
    return tuple(chosen)
