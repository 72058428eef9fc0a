"""A triage run: what goes in, what came of each study, and the files about the run as a whole."""

from __future__ import annotations

import dataclasses
import json
import platform
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covid_ct_mask_net import RESEARCH_NOTICE, assemble
from covid_ct_mask_net.app import intake
from covid_ct_mask_net.app.chain import dicom_jobs, nifti_jobs
from covid_ct_mask_net.app.html_worklist import html_worklist
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.readers import Readers
from covid_ct_mask_net.app.study_job import StudyJob
from covid_ct_mask_net.clock import is_fixed, now
from covid_ct_mask_net.errors import (
    CovidCTMaskNetError,
    ExitCode,
    NotAssessableError,
    OutputError,
    UsageError,
)
from covid_ct_mask_net.identifiers import pseudonym
from covid_ct_mask_net.nifti_file import NIFTI_SUFFIXES
from covid_ct_mask_net.result_set import write_json_atomically, write_result_set
from covid_ct_mask_net.results import Status, StudyResult
from covid_ct_mask_net.worklist import worklist

_RUN_SCHEMA = "covid-ct-mask-net/run/1"
_EXIT_CODES = {
    Status.ASSESSED: ExitCode.DONE,
    Status.NOT_ASSESSED: ExitCode.NOTHING_ASSESSABLE,
    Status.REFUSED: ExitCode.REFUSED_INPUT,
    Status.FAILED: ExitCode.INTERNAL,
}


@dataclass
class TriageRun:
    """Studies of the inputs and the results so far.

    Use ``start``, hand each of ``jobs()`` to a chain, call ``finished`` with it, and ``conclude`` at the end.
    """

    output: Path
    found: intake.Intake
    volumes: tuple[Path, ...]
    started: float
    readers: Readers
    results: list[StudyResult] = field(default_factory=list)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: list[CovidCTMaskNetError] = field(default_factory=list)

    @classmethod
    def start(
        cls, inputs: Sequence[Path], output: Path, progress: Callable[[], object] | None = None
    ) -> TriageRun:
        """Prepare the output folder and look through the inputs.

        Parameters
        ----------
        inputs : sequence of Path
            Folders and files, DICOM or NIfTI.
        output : Path
            Folder for the results; made if it is not there.
        progress : callable, optional
            Called after each file looked at.

        Raises
        ------
        UsageError
            If an input is missing, or the output lies inside an input or the other way round.
        OutputError
            If the output folder cannot be made.
        """
        started = time.perf_counter()
        _keep_apart(inputs, output)
        readers = Readers(Limits())
        found = intake.scan(inputs, readers.limits, progress, readers.header)
        volumes = _nifti_volumes(inputs)
        refused = tuple(f for f in found.refused_files if f.path not in set(volumes))
        _make_folder(output)
        return cls(output, dataclasses.replace(found, refused_files=refused), volumes, started, readers)

    def __len__(self) -> int:
        """Return the number of studies and volumes."""
        return len(self.found.studies) + len(self.volumes)

    def jobs(self) -> Iterator[StudyJob]:
        """Yield the studies, one job each."""
        for job in dicom_jobs(self.found):
            job.readers = self.readers
            yield job
        yield from nifti_jobs(self.volumes)

    def finished(self, job: StudyJob) -> None:
        """Take note of a study whose results are on disk."""
        if job.result is None:
            raise ValueError("The job has no result; report it first.")
        self.results.append(job.result)
        self.seconds[job.result.pseudonym] = {k: round(v, 3) for k, v in job.seconds.items()}
        if job.error is not None:
            self.errors.append(job.error)

    def conclude(self) -> ExitCode:
        """Write ``worklist.json`` and ``run.json`` and return the exit code of the run."""
        self.readers.close()
        if not len(self):
            self._report_nothing()
        codes = [_EXIT_CODES[result.status] for result in self.results]
        codes += [error.exit_code for error in self.errors if isinstance(error, OutputError)]
        write_json_atomically(self.output / "worklist.json", worklist(self.results))
        # Pages of studies are a setting; the worklist has a page where they have.
        if any((self.output / result.pseudonym / "report.html").is_file() for result in self.results):
            write_json_atomically(self.output / "worklist.html", html_worklist(self.results))
        write_json_atomically(self.output / "run.json", self._record())
        return max(codes)

    def _report_nothing(self) -> None:
        """Write the result of an input without any study: it says why."""
        try:
            intake.require_studies(self.found)
        except NotAssessableError as error:
            name = pseudonym(error.code)
            source = assemble.Source(pseudonym=name, kind="none", key="", files=dict(self.found.refused))
            result = assemble.declined(source, error, None)
            write_result_set(self.output, name, {"result.json": result.to_json().encode()})
            self.results.append(result)
            self.errors.append(error)

    def _engine(self) -> dict[str, str] | None:
        """Return how the networks were computed; None where no study came that far."""
        for result in self.results:
            if result.model is not None and result.model.engine is not None:
                return dataclasses.asdict(result.model.engine)
        return None

    def _record(self) -> str:
        record = {
            "schema": _RUN_SCHEMA,
            "notice": RESEARCH_NOTICE,
            "created": now().isoformat(),
            "studies": len(self.results),
            "files": {
                "accepted": self.found.accepted,
                "refused": dict(self.found.refused),
                "modalities": dict(self.found.modalities),
            },
            # What differs between equal runs is left out of a run that is to be equal to the byte.
            **({} if is_fixed() else self._measured()),
            "engine": self._engine(),
            "software": assemble.software_versions(("pydicom", "highdicom", "nibabel")),
        }
        return json.dumps(record, indent=2) + "\n"

    def _measured(self) -> dict[str, object]:
        """Return time and memory of the run."""
        # ru_maxrss is in kB on Linux and in bytes on macOS.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak_mb = peak / 1024 if platform.system() == "Linux" else peak / 1024**2
        return {
            "seconds": {"total": round(time.perf_counter() - self.started, 3), "studies": self.seconds},
            "peak_memory_mb": round(peak_mb),
        }


def _keep_apart(inputs: Sequence[Path], output: Path) -> None:
    """Refuse to write results among the images, where the next run would read them."""
    out = output.resolve()
    for path in inputs:
        source = path.resolve()
        if source == out or source in out.parents:
            raise UsageError(
                "OUTPUT_IN_INPUT",
                f"The output folder {str(output)!r} lies in the input {str(path)!r}; name one outside of it.",
            )


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "OUTPUT_UNWRITABLE",
            f"The output folder {str(output)!r} cannot be made ({error.strerror}); name another.",
        ) from error


def _nifti_volumes(inputs: Sequence[Path]) -> tuple[Path, ...]:
    volumes: set[Path] = set()
    for path in inputs:
        candidates = path.rglob("*") if path.is_dir() else [path]
        volumes |= {
            c.resolve()
            for c in candidates
            if c.name.endswith(NIFTI_SUFFIXES) and c.is_file() and not c.is_symlink()
        }
    return tuple(sorted(volumes))
