"""One study on its way through the chain: what is known of it so far."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from covid_ct_mask_net.app import pixels
from covid_ct_mask_net.app.deadline import Deadline
from covid_ct_mask_net.app.intake import Instance, Study
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.readers import Readers
from covid_ct_mask_net.app.volume import SourceVolume
from covid_ct_mask_net.assemble import Source
from covid_ct_mask_net.errors import CovidCTMaskNetError
from covid_ct_mask_net.nifti_stream import NiftiImage, NiftiLimits, open_nifti
from covid_ct_mask_net.results import StudyResult


@dataclass
class StudyJob:
    """A study and what the stages found; each stage adds its part and passes the job on.

    Attributes
    ----------
    source
        Identity, files, series and geometry of the study.
    study
        DICOM instances of the study; None for a NIfTI volume.
    nifti
        Path of the NIfTI volume; None for DICOM.
    volume
        The chosen series as a volume in HU, once read; DICOM only.
    data
        Data dictionary of the pipeline.
    error
        Why the study was given up; later stages then only report it.
    result
        The result, once written.
    readers
        Processes that read its files; None reads them in this process.
    deadline
        How long the study may take.
    seconds
        Time spent in each stage.
    """

    source: Source
    study: Study | None = None
    nifti: Path | None = None
    volume: SourceVolume | None = None
    data: dict[Hashable, Any] = field(default_factory=dict)
    error: CovidCTMaskNetError | None = None
    result: StudyResult | None = None
    readers: Readers | None = None
    deadline: Deadline = field(default_factory=lambda: Deadline(0.0, "study_seconds"))
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def stored_values(self, instance: Instance, limits: Limits, *, frame: int = 0) -> NDArray:
        """Return the stored values of one frame, read by ``readers``, while there is time."""
        self.deadline.check()
        if self.readers is None:
            return pixels.stored_values(instance, limits, frame=frame)
        return self.readers.stored_values(instance, limits, frame=frame)

    @contextmanager
    def opened_nifti(self, path: Path, limits: NiftiLimits) -> Iterator[tuple[NiftiImage, Iterator[bytes]]]:
        """Open a NIfTI file, as ``open_nifti`` does, by ``readers``, while there is time."""
        self.deadline.check()
        opened = open_nifti(path, limits) if self.readers is None else self.readers.nifti(path, limits)
        with opened as (image, pieces):
            yield image, self._in_time(pieces)

    def _in_time(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.deadline.check()
            yield piece

    def release(self) -> None:
        """Let go of pixels and headers; memory then does not grow with the number of studies."""
        self.study = None
        self.volume = None
        self.data = {}


def counted(refused: Mapping[str, int], accepted: int) -> dict[str, int]:
    """Return the number of files by outcome, for the result."""
    return {"accepted": accepted, **dict(sorted(refused.items()))}
