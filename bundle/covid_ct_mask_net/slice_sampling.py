"""Which of a volume's lung slices the networks read, in which order, and what the read ones stand for."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Self

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.results import SamplingReport

_FORM = re.compile(r"(all|adaptive|every)(?:=(\d+(?:\.\d+)?))?")


class SliceMode(StrEnum):
    """Ways to go through the lung slices."""

    ALL = "all"
    ADAPTIVE = "adaptive"
    EVERY = "every"


@dataclass(frozen=True)
class SlicePlan:
    """Which lung slices may be read, and when reading may stop.

    Attributes
    ----------
    mode
        ``all`` reads every lung slice. ``adaptive`` reads from coarse to fine and stops as soon as slices not
        read yet can no longer change class, probabilities or priority. ``every`` reads one slice in each
        ``step_mm``.
    step_mm
        Slices closer together than this are left out; 0 leaves out none.
    coarse_mm
        Adaptive reading covers the lungs at least this densely before it stops: 10 mm is the classic interval
        of high-resolution CT for diffuse lung disease.
    """

    mode: SliceMode = SliceMode.ALL
    step_mm: float = 0.0
    coarse_mm: float = 10.0

    def __post_init__(self) -> None:
        if self.step_mm < 0.0 or not self.coarse_mm > 0.0:
            raise UsageError(
                "SETTING",
                f"The step is {self.step_mm:g} mm and coarse_mm {self.coarse_mm:g}; expected are at least 0 "
                "and more than 0.",
            )
        if (self.mode is SliceMode.EVERY) != (self.step_mm > 0.0) and self.mode is not SliceMode.ADAPTIVE:
            raise UsageError(
                "SETTING", f"Slices {self.mode.value} with a step of {self.step_mm:g} mm is no plan."
            )

    @classmethod
    def parse(cls, text: str, coarse_mm: float = 10.0) -> Self:
        """Return the plan of a setting: ``all``, ``adaptive``, ``adaptive=MM`` or ``every=MM``.

        Raises
        ------
        UsageError
            ``SETTING`` for anything else.
        """
        found = _FORM.fullmatch(text.strip())
        if (
            found is None
            or (found[1] == SliceMode.ALL and found[2])
            or (found[1] == SliceMode.EVERY and not found[2])
        ):
            raise UsageError(
                "SETTING",
                f"slices is {text!r}, but must be all, adaptive, adaptive=MM or every=MM (MM above 0).",
            )
        return cls(SliceMode(found[1]), float(found[2] or 0.0), coarse_mm)

    @property
    def text(self) -> str:
        """The setting that `parse` reads."""
        return f"{self.mode.value}={self.step_mm:g}" if self.step_mm else self.mode.value

    def sample(
        self, lung_slices: Sequence[int], spacing_mm: float, interpolated: Collection[int] = ()
    ) -> SliceSampling:
        """Return what to read of a volume.

        Parameters
        ----------
        lung_slices : sequence of int
            Canonical indices of the slices with lung, rising.
        spacing_mm : float
            Distance between neighbouring slices of the volume.
        interpolated : collection of int
            Canonical indices of slices that no image was made of; they are not read.
        """
        chosen, last = [], None
        missing = set(interpolated)
        for index in (i for i in lung_slices if i not in missing):
            # A thousandth of a slice is rounding of the spacing.
            if last is None or (index - last + 1e-3) * spacing_mm >= self.step_mm:
                chosen.append(int(index))
                last = index
        stride = 1
        apart = max(self.step_mm, spacing_mm)
        while 2 * stride * apart <= self.coarse_mm * (1 + 1e-6):
            stride *= 2
        places, first_pass = coarse_to_fine(len(chosen), stride)
        return SliceSampling(
            self,
            tuple(int(i) for i in lung_slices),
            tuple(chosen[p] for p in places),
            first_pass,
            spacing_mm,
            len(missing.intersection(lung_slices)),
        )


@dataclass(frozen=True)
class SliceSampling:
    """What is read of one volume.

    Attributes
    ----------
    plan
        Where it comes from.
    lung_slices
        Canonical indices of all slices with lung, rising.
    order
        Indices of those that may be read, in reading order: coarse to fine.
    first_pass
        How many of them cover the lungs at the coarse step.
    spacing_mm
        Distance between neighbouring slices.
    interpolated
        How many of the slices with lung no image was made of.
    """

    plan: SlicePlan
    lung_slices: tuple[int, ...]
    order: tuple[int, ...]
    first_pass: int
    spacing_mm: float
    interpolated: int = 0

    @property
    def may_stop(self) -> bool:
        """Whether reading may end before all of ``order`` is read."""
        return self.plan.mode is SliceMode.ADAPTIVE

    @property
    def step_mm(self) -> float:
        """Millimetres of lung for each slice that may be read."""
        return self.spacing_mm * len(self.lung_slices) / max(1, len(self.order))

    def weights(self, read: Sequence[int]) -> dict[int, int]:
        """Return how many lung slices each read one stands for: those that it is the nearest to.

        Areas on read slices times this number times the slice distance estimate volumes (Cavalieri). All ones
        where every lung slice was read. Of two read slices at equal distance the lower one counts.
        """
        ordered = sorted(read)
        counts = dict.fromkeys(ordered, 0)
        place = 0
        for index in self.lung_slices:
            while place + 1 < len(ordered) and abs(ordered[place + 1] - index) < abs(ordered[place] - index):
                place += 1
            counts[ordered[place]] += 1
        return counts

    def following(self, read: Sequence[int]) -> dict[int, int]:
        """Return the next read slice above each read one; empty where every lung slice was read."""
        ordered = sorted(read)
        return {} if len(ordered) == len(self.lung_slices) else dict(pairwise(ordered))

    def report(self, read: Sequence[int]) -> SamplingReport:
        """Return what the result says about the slices that were read and those that were not."""
        count, of = len(read), len(self.lung_slices)
        ordered = sorted(read)
        gap = max((b - a for a, b in pairwise(ordered)), default=0)
        return SamplingReport(
            mode=self.plan.mode.value,
            step_mm=self.plan.step_mm,
            lung_slices=of,
            read_slices=count,
            skipped_slices=of - count,
            largest_gap_mm=round(gap * self.spacing_mm, 3),
            stopped_early=count < len(self.order),
            sentence=self._sentence(count, of, gap * self.spacing_mm),
        )

    def _sentence(self, count: int, of: int, gap_mm: float) -> str:
        if count == of:
            return f"All {of} lung slices were read."
        why = []
        if count < len(self.order):
            why.append("then the others could no longer change class, probabilities or priority")
        elif count + self.interpolated < of:
            why.append(f"one in each {self.plan.step_mm:g} mm, as asked")
        if self.interpolated:
            why.append(f"{self.interpolated} missing from the images are interpolated and not read")
        return (
            f"{count} of {of} lung slices were read, at most {gap_mm:.1f} mm apart: {'; '.join(why)}. "
            "Lesions that lie between them are not seen; lesion volumes and involvement are estimates from "
            "the slices read."
        )


def coarse_to_fine(count: int, stride: int) -> tuple[tuple[int, ...], int]:
    """Return the places 0 to ``count`` - 1 so that each pass halves the gaps of those before.

    Parameters
    ----------
    count : int
    stride : int
        Step of the first pass; a power of two.

    Returns
    -------
    tuple
        The places, and how many of them the first pass has.
    """
    places = list(range(min(stride // 2, max(count - 1, 0)), count, stride))
    first_pass = len(places)
    seen = set(places)
    step = stride
    while step >= 1:
        further = [place for place in range(0, count, step) if place not in seen]
        places += further
        seen.update(further)
        step //= 2
    return tuple(places), first_pass


def slice_weights(sampling: SliceSampling | None, read: Sequence[int]) -> Mapping[int, int]:
    """Return the weights of the read slices; ones where nothing is known of others."""
    return dict.fromkeys(read, 1) if sampling is None else sampling.weights(read)
