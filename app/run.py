"""A triage run: what goes in, what came of each study, and the files about the run as a whole."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pydicom.dataset import Dataset

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.app import intake
from covid_ct_mask_net.app.audit import Action, AuditLog, Event, EventType, Outcome
from covid_ct_mask_net.app.deadline import Deadline
from covid_ct_mask_net.app.headers import FileRefusedError
from covid_ct_mask_net.app.html_worklist import html_worklist
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.logs import PatientDataFilter, event
from covid_ct_mask_net.app.output_folder import OutputFolder
from covid_ct_mask_net.app.readers import Readers
from covid_ct_mask_net.app.result_sets import entries_of, with_pages
from covid_ct_mask_net.app.settings import AppSettings
from covid_ct_mask_net.app.waiting_studies import WaitingStudies
from covid_ct_mask_net.clock import is_fixed, now
from covid_ct_mask_net.errors import (
    ExitCode,
    NotAssessableError,
    OutputError,
    UntrustedModelError,
    UsageError,
)
from covid_ct_mask_net.identifiers import pseudonym
from covid_ct_mask_net.nifti_stream import NIFTI_SUFFIXES
from covid_ct_mask_net.result_set import write_json_atomically, write_result_set
from covid_ct_mask_net.results import Reason, Status, StudyResult
from covid_ct_mask_net.worklist import WorklistEntry, worklist

# The networks, and what else a study needs, load while ``start`` looks through the input.
if TYPE_CHECKING:
    from covid_ct_mask_net.app.study_job import StudyJob

_log = logging.getLogger(__name__)
# Code of files that were not reached in time.
_NOT_REACHED = "TIME_LIMIT"
_RUN_SCHEMA = "covid-ct-mask-net/run/1"
_EXIT_CODES = {
    Status.ASSESSED: ExitCode.DONE,
    Status.NOT_ASSESSED: ExitCode.NOTHING_ASSESSABLE,
    Status.REFUSED: ExitCode.REFUSED_INPUT,
    Status.FAILED: ExitCode.INTERNAL,
}
_OUTCOMES = {
    Status.ASSESSED: Outcome.SUCCESS,
    Status.NOT_ASSESSED: Outcome.MINOR_FAILURE,
    Status.REFUSED: Outcome.SERIOUS_FAILURE,
    Status.FAILED: Outcome.MAJOR_FAILURE,
}


@dataclass
class TriageRun:
    """Studies of the inputs that are still to be done, and what came of those that are over.

    Use ``start``, hand each of ``jobs()`` to a chain, call ``finished`` with it, and ``conclude`` at the end;
    as a context, or with ``close``, it lets go of the output folder and the readers whatever happens.
    ``inference`` are the settings of the pipeline, for the record: set it once there is one.
    """

    folder: OutputFolder
    audit: AuditLog
    settings: AppSettings
    found: intake.Intake
    studies: WaitingStudies
    volumes: tuple[Path, ...]
    started: float
    readers: Readers
    entries: list[WorklistEntry] = field(default_factory=list)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    inference: Mapping[str, bool | float | str] | None = None

    def __post_init__(self) -> None:
        self._count = len(self.studies) + len(self.volumes)
        self._incomplete = _incomplete(self.found.refused, self.settings.limits)
        self._engine: dict[str, str] | None = None
        self._output_failed = False

    @property
    def output(self) -> Path:
        """Folder for the results."""
        return self.folder.path

    @classmethod
    def start(
        cls,
        inputs: Sequence[Path],
        output: Path,
        progress: Callable[[], object] | None = None,
        settings: AppSettings | None = None,
        withheld: PatientDataFilter | None = None,
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
        settings : AppSettings, optional
            Limits and rules.
        withheld : PatientDataFilter, optional
            Filter of the logs, which is told of the patients.

        Raises
        ------
        UsageError
            If an input is missing, or the output lies inside an input.
        OutputError
            If the output folder cannot be used, see `OutputFolder`.
        """
        started = time.perf_counter()
        settings, withheld = settings or AppSettings(), withheld or PatientDataFilter()
        withheld.learn_paths(inputs)
        intake.require_inputs(inputs)
        _keep_apart(inputs, output)
        with contextlib.ExitStack() as held:
            folder = held.enter_context(OutputFolder(output))
            audit = held.enter_context(AuditLog(output / "audit.jsonl"))
            readers = held.enter_context(Readers(settings.limits))
            audit.record(Event.APPLICATION_ACTIVITY, Action.EXECUTE, kind=EventType.APPLICATION_START)
            deadline = Deadline(settings.limits.intake_seconds, "intake_seconds")
            found = intake.scan(inputs, settings.limits, progress, _until(deadline, readers.header))
            volumes = _nifti_volumes(inputs)
            refused = tuple(f for f in found.refused_files if f.path not in set(volumes))
            found = dataclasses.replace(found, refused_files=refused)
            for study in found.studies:
                withheld.learn(series.instances[0].header for series in study.series)
            # Only the queue holds studies: one that is over is let go of, with its headers.
            waiting, found = WaitingStudies(found.studies), dataclasses.replace(found, studies=())
            run = cls(folder, audit, settings, found, waiting, volumes, started, readers)
            held.pop_all()
        run._note_intake()
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UntrustedModelError):
            self.note_untrusted(error)
        self.close()

    def note_untrusted(self, error: UntrustedModelError) -> None:
        """Take note of weights or a bundle that are not trusted."""
        self.audit.record(
            Event.SECURITY_ALERT, Action.EXECUTE, Outcome.SERIOUS_FAILURE, details={"reason": error.code}
        )

    def close(self) -> None:
        """Let go of readers and output folder; ``conclude`` has done so already."""
        self.readers.close()
        with contextlib.suppress(ValueError, OutputError):
            # The log is closed where the run was concluded: then there is nothing to add.
            self._note_stop(Outcome.MAJOR_FAILURE)
        self.audit.close()
        self.folder.close()

    def _note_intake(self) -> None:
        refused = dict(self.found.refused)
        _log.info("input read", extra=event(accepted=self.found.accepted, refused=sum(refused.values())))
        if refused:
            # What is wrong with a file is seldom an attack, and an attack is always one of these.
            self.audit.record(Event.SECURITY_ALERT, Action.EXECUTE, Outcome.MINOR_FAILURE, details=refused)
        for reason in self._incomplete:
            _log.warning("%s: %s", reason.code, reason.sentence)

    def _note_stop(self, outcome: Outcome) -> None:
        self.audit.record(
            Event.APPLICATION_ACTIVITY, Action.EXECUTE, outcome, kind=EventType.APPLICATION_STOP
        )

    def __len__(self) -> int:
        """Return the number of studies and volumes."""
        return self._count

    def jobs(self) -> Iterator[StudyJob]:
        """Yield the studies, one job each; those that were yielded are not held, and not yielded again."""
        from covid_ct_mask_net.app.chain import dicom_jobs, nifti_jobs

        for job in itertools.chain(dicom_jobs(self.studies), nifti_jobs(self.volumes)):
            job.source = dataclasses.replace(job.source, warnings=(*job.source.warnings, *self._incomplete))
            job.readers = self.readers
            job.deadline = Deadline(self.settings.limits.study_seconds, "study_seconds")
            read = Event.INSTANCES_ACCESSED if job.nifti is None else Event.IMPORT
            self.audit.record(
                read,
                Action.READ,
                studies=[job.source.pseudonym],
                details={"instances": job.source.files["accepted"]},
            )
            yield job

    def finished(self, job: StudyJob) -> None:
        """Take note of a study whose results are on disk."""
        if job.result is None:
            raise ValueError("The job has no result; report it first.")
        self._add(job.result)
        name, status = job.result.pseudonym, job.result.status
        reasons = ",".join(reason.code for reason in job.result.reasons)
        self.audit.record(
            Event.INSTANCES_ACCESSED,
            Action.CREATE,
            _OUTCOMES[status],
            studies=[name],
            details={
                "status": status.value,
                "reasons": reasons,
                "instances": len(list((self.output / name).glob("*.dcm"))),
            },
        )
        seconds = round(sum(job.seconds.values()), 3)
        _log.info(
            "study done", extra=event(study=name, status=status.value, reasons=reasons, seconds=seconds)
        )
        self.seconds[job.result.pseudonym] = {k: round(v, 3) for k, v in job.seconds.items()}
        # The error itself would hold what was in memory when it was raised.
        self._output_failed |= isinstance(job.error, OutputError)

    def conclude(self) -> ExitCode:
        """Write the worklists of the output folder and ``run.json``, and return the exit code of the run."""
        if not len(self):
            self._report_nothing()
        codes = [_EXIT_CODES[entry.status] for entry in self.entries]
        if self._output_failed:
            codes.append(ExitCode.OUTPUT_FAILED)
        # Studies that nobody looked at have no result that could say so.
        codes += [ExitCode.REFUSED_INPUT for _ in self._incomplete]
        self._write_worklists()
        write_json_atomically(self.output / "run.json", self._record())
        self._note_stop(Outcome.SUCCESS)
        self.audit.close()
        self.close()
        return max(codes)

    def _add(self, result: StudyResult) -> None:
        # Results of all studies would take memory by their number.
        self.entries.append(WorklistEntry.of(result))
        if self._engine is None and result.model is not None and result.model.engine is not None:
            self._engine = dataclasses.asdict(result.model.engine)

    def _write_worklists(self) -> None:
        """Write the worklists of all result sets in the folder, those of earlier runs too."""
        entries = entries_of(self.output, self.entries)
        pages, page = with_pages(self.output, entries), self.output / "worklist.html"
        write_json_atomically(self.output / "worklist.json", worklist(entries))
        # Pages are a setting, but one that is there must not tell something else than worklist.json.
        if self.settings.results.html or pages or page.exists():
            write_json_atomically(page, html_worklist(entries, pages))

    def _report_nothing(self) -> None:
        """Write the result of an input without any study: it says why."""
        from covid_ct_mask_net import assemble

        try:
            intake.require_studies(self.found)
        except NotAssessableError as error:
            name = pseudonym(error.code)
            source = assemble.Source(pseudonym=name, kind="none", key="", files=dict(self.found.refused))
            result = assemble.declined(source, error, None)
            write_result_set(self.output, name, {"result.json": result.to_json().encode()})
            self._add(result)

    def _record(self) -> str:
        from covid_ct_mask_net import assemble

        record = {
            "schema": _RUN_SCHEMA,
            "notice": RESEARCH_NOTICE,
            "created": now().isoformat(),
            "studies": len(self.entries),
            "files": {
                "accepted": self.found.accepted,
                "refused": dict(self.found.refused),
                "modalities": dict(self.found.modalities),
            },
            # What differs between equal runs is left out of a run that is to be equal to the byte.
            **({} if is_fixed() else self._measured()),
            # None where no study came to the networks.
            "engine": self._engine,
            "settings": {
                **self.settings.record(),
                "inference": None if self.inference is None else dict(self.inference),
            },
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


def _until(deadline: Deadline, read_header: intake.HeaderReader) -> intake.HeaderReader:
    """Return a reader of headers that refuses files once the time is over."""

    def read(path: Path, limits: Limits) -> Dataset:
        if deadline.passed():
            raise FileRefusedError(
                _NOT_REACHED,
                f"Looking through the input took longer than {limits.intake_seconds} s (intake_seconds); the "
                "file was not read.",
            )
        return read_header(path, limits)

    return read


def _incomplete(refused: Mapping[str, int], limits: Limits) -> tuple[Reason, ...]:
    """Return the warning for all results of a run that did not look at all of its input."""
    count = refused.get(_NOT_REACHED, 0)
    if not count:
        return ()
    return (
        Reason(
            "INTAKE_INCOMPLETE",
            f"Looking through the input took longer than {limits.intake_seconds} s (intake_seconds), so "
            f"{count} file(s) were not looked at: whole studies, or series and slices of the others, may be "
            "missing. Raise the limit and run again.",
        ),
    )


def _nifti_volumes(inputs: Sequence[Path]) -> tuple[Path, ...]:
    volumes: set[Path] = set()
    for path in inputs:
        # Folders that cannot be read are already among the refused files. Links in folders are not followed,
        # but who names one means the file behind it, as with DICOM.
        candidates = intake.walk(path) if path.is_dir() else [path.resolve()]
        named = (c for c in candidates if c.name.endswith(NIFTI_SUFFIXES))
        # Unlike Path.is_file, this one says no where nothing can be learned of an entry.
        volumes |= {c.resolve() for c in named if os.path.isfile(c) and not c.is_symlink()}  # noqa: PTH113
    return tuple(sorted(volumes))
