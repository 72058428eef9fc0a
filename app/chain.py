"""The stages that take a study from its files to its result set.

Plain functions of a `StudyJob`, in the order of ``StudyChain.stages``. The command line calls them in turn,
the operators of the application wrap one each. A stage that cannot go on leaves its reason in the job, and
the last stage writes that reason as the study's result: one study never stops the others, and each ends with
a result.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covid_ct_mask_net import assemble
from covid_ct_mask_net.app import intake, series_selection, volume
from covid_ct_mask_net.app.dicom_results import Images, dicom_results
from covid_ct_mask_net.app.findings import Findings
from covid_ct_mask_net.app.headers import CT_IMAGES
from covid_ct_mask_net.app.html_report import html_report
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.normalise import Sources, normalise
from covid_ct_mask_net.app.report_settings import ReportSettings
from covid_ct_mask_net.app.result_object import is_result
from covid_ct_mask_net.app.settings import AppSettings
from covid_ct_mask_net.app.study_gates import StudyGates
from covid_ct_mask_net.app.study_job import StudyJob, counted
from covid_ct_mask_net.app.views import views
from covid_ct_mask_net.declining import INTERPOLATED_SLICES, declined, declining_cause
from covid_ct_mask_net.errors import CovidCTMaskNetError, RefusedInputError
from covid_ct_mask_net.exit_codes import NO_MEMORY, lacks_memory
from covid_ct_mask_net.identifiers import pseudonym
from covid_ct_mask_net.nifti_file import LoadNiftid
from covid_ct_mask_net.pipeline import VolumePipeline
from covid_ct_mask_net.postprocessing import SourceKeyd, nifti_result
from covid_ct_mask_net.result_set import write_result_set
from covid_ct_mask_net.results import StudyResult

_log = logging.getLogger(__name__)
_PACKAGES = ("pydicom", "highdicom")

Progress = Callable[[str, int, int], object]
"""Told the pseudonym of the study, the slices done and the slices in all."""


class InternalError(CovidCTMaskNetError):
    """Something that should not happen did; the study is reported as failed (exit 70)."""


@dataclass(frozen=True, eq=False)
class StudyChain:
    """The stages with what they need.

    Attributes
    ----------
    pipeline
        Networks, transforms and triage of the bundle.
    output
        Folder for the results.
    rules
        How the series of a study is chosen.
    settings
        Which results are written.
    gates
        Whom the model may be used on.
    limits
        Bounds on the input.
    progress
        Told how far the slices of a study are.
    """

    pipeline: VolumePipeline
    output: Path
    rules: series_selection.SelectionRules = field(default_factory=series_selection.SelectionRules)
    settings: ReportSettings = field(default_factory=ReportSettings)
    gates: StudyGates = field(default_factory=StudyGates)
    limits: Limits = field(default_factory=Limits)
    progress: Progress | None = None

    @classmethod
    def of(
        cls,
        pipeline: VolumePipeline,
        output: Path,
        settings: AppSettings,
        progress: Progress | None = None,
    ) -> StudyChain:
        """Return the chain with the limits, rules and results of the application's settings."""
        return cls(
            pipeline,
            output,
            rules=settings.selection,
            settings=settings.results,
            gates=settings.gates,
            limits=settings.limits,
            progress=progress,
        )

    @property
    def stages(self) -> tuple[tuple[str, Callable[[StudyJob], None]], ...]:
        """Names and functions of the stages before the report, in order."""
        return (
            ("select", self.select),
            ("load", self.load),
            ("prepare", self.prepare),
            ("infer", self.infer),
            ("triage", self.triage),
        )

    def run(self, job: StudyJob) -> StudyResult:
        """Take a study through all stages and return its result, which is then on disk."""
        for name, stage in self.stages:
            self.attempt(name, stage, job)
        return self.report(job)

    def attempt(self, name: str, stage: Callable[[StudyJob], None], job: StudyJob) -> None:
        """Run a stage unless the study was given up; keep what it raises as the reason to give up."""
        if job.error is not None:
            return
        with job.timed(name):
            try:
                job.deadline.check()
                stage(job)
            except CovidCTMaskNetError as error:
                job.error = error
            # One study must not take the others with it, whatever goes wrong inside.
            except Exception as error:
                job.error = declining_cause(error) or self._internal_error(name, error, job)
        if job.error is None and (reason := declined(job.data)) is not None:
            job.error = reason

    @staticmethod
    def _internal_error(stage: str, error: Exception, job: StudyJob) -> InternalError:
        failure = (
            InternalError("OUT_OF_MEMORY", f"Stage {stage} stopped. {NO_MEMORY}")
            if lacks_memory(error)
            else InternalError(
                "INTERNAL",
                f"Stage {stage} stopped with {type(error).__name__}; this is a defect of the software. "
                "Run again with --debug for the traceback and report it.",
            )
        )
        _log.error("study %s: %s", job.source.pseudonym, failure.sentence)
        _log.debug("traceback", exc_info=error)
        return failure

    def select(self, job: StudyJob) -> None:
        """Choose the series to read (DICOM)."""
        if job.study is None:
            return
        selection = series_selection.select(job.study, self.rules, self.limits)
        job.source = dataclasses.replace(job.source, series=selection.reports)
        job.data["series"] = selection.required()

    def load(self, job: StudyJob) -> None:
        """Read the pixels of the chosen series, or of the NIfTI file."""
        if job.nifti is not None:
            job.data = {
                "volume": str(job.nifti),
                "source_key": job.source.key,
                "warnings": job.source.warnings,
            }
            axial = self.rules.geometry.axial
            job.data = LoadNiftid("volume", self.limits.nifti, job.opened_nifti, axial)(job.data)
            return
        series = job.data.pop("series")
        warnings = self.gates.check([instance.header for instance in series.instances])
        job.source = dataclasses.replace(job.source, warnings=(*job.source.warnings, *warnings))
        job.volume = volume.load(series, self.limits, self.rules.geometry, stored_values=job.stored_values)
        # Under other settings, or by another engine, lesion 1 may be another one: not to be tracked as one.
        how = self.pipeline.model.engine
        engine = "" if how is None else f"{how.name} {how.precision}"
        study = job.source.study_instance_uid
        key = f"{study} {series.series_instance_uid} {engine} {self.pipeline.configuration}"
        job.source = dataclasses.replace(
            job.source,
            key=key,
            geometry=job.volume.geometry,
            sop_instance_uids=tuple(
                None if header is None else str(header.SOPInstanceUID) for header in job.volume.headers
            ),
            warnings=(*job.source.warnings, *job.volume.warnings),
        )
        job.data = {
            "volume": job.volume.image,
            "source_key": key,
            INTERPOLATED_SLICES: job.volume.interpolated,
        }
        # The transforms make their own volume of it: two in memory would be one too many.
        job.volume = job.volume.without_pixels()

    def prepare(self, job: StudyJob) -> None:
        """Canonical volume, lungs, slices."""
        job.data = self.pipeline.prepare(job.data)

    def infer(self, job: StudyJob) -> None:
        """Slice evidence."""
        total = len(job.data["slices"])
        progress = self.progress

        def told(done: int) -> None:
            job.deadline.check()
            if progress is not None:
                progress(job.source.pseudonym, done, total)

        job.data = self.pipeline.infer(job.data, told)

    def triage(self, job: StudyJob) -> None:
        """Lesions, involvement, class and priority of the volume."""
        job.data = self.pipeline.assess(job.data)

    def report(self, job: StudyJob) -> StudyResult:
        """Write the result set of a study, assessed or not, and let go of its pixels.

        A study whose reports cannot be made has failed, and gets a result that says so and nothing else.
        """
        with job.timed("report"):
            try:
                result = self._report(job)
            except CovidCTMaskNetError:
                raise
            # One study must not take the others with it here either.
            except Exception as error:
                job.error = self._internal_error("report", error, job)
                result = self._result(job)
                write_result_set(self.output, result.pseudonym, {"result.json": result.to_json().encode()})
        job.result = result
        job.release()
        return result

    def _report(self, job: StudyJob) -> StudyResult:
        sources = _report_sources(job)
        if sources is not None:
            job.source = dataclasses.replace(job.source, warnings=(*job.source.warnings, *sources.warnings))
        result = self._result(job)
        files: dict[str, bytes] = {"result.json": result.to_json().encode()}
        findings = Findings.of(job.data, result, job.volume)
        shown = () if findings is None else views(result, findings)
        if self.settings.html:
            files["report.html"] = html_report(result, findings, shown).encode()
        # The objects need masks, not HU: large ones would have no room beside the volume.
        job.data = {}
        findings = None if findings is None else findings.without_pixels()
        if sources is not None:
            images = None
            if findings is not None and job.volume is not None:
                images = Images(job.volume, findings, shown)
            files |= dicom_results(result, sources, images, self.settings, self.pipeline.configuration)
        write_result_set(self.output, result.pseudonym, files)
        return result

    def _result(self, job: StudyJob) -> StudyResult:
        if job.nifti is not None and "source_key" in job.data:
            if job.error is not None:
                job.data["declined"] = job.error
            return dataclasses.replace(
                nifti_result(job.data, self.pipeline.model, "volume"), pseudonym=job.source.pseudonym
            )
        warnings = (*job.source.warnings, *job.data.get("warnings", ()))
        source = dataclasses.replace(job.source, warnings=warnings)
        if job.error is not None:
            return assemble.declined(source, job.error, self.pipeline.model)
        return assemble.assessed(source, job.data["outcome"], self.pipeline.model)


def dicom_jobs(studies: Iterable[intake.Study]) -> Iterator[StudyJob]:
    """Yield one job a study, in their order; what else the input holds has no part in their results."""
    for study in studies:
        accepted = sum(len(series.instances) for series in study.series)
        yield StudyJob(
            source=assemble.Source(
                pseudonym=study.pseudonym,
                kind="dicom",
                key=study.study_instance_uid,
                study_instance_uid=study.study_instance_uid,
                files=counted(study.refused, accepted),
                packages=_PACKAGES,
            ),
            study=study,
        )


def nifti_jobs(paths: Sequence[Path]) -> Iterator[StudyJob]:
    """Yield one job a NIfTI file; one that cannot be read is a job that was given up."""
    for path in paths:
        key, error = str(path), None
        try:
            key = str(SourceKeyd("volume")({"volume": str(path)})["source_key"])
        except RefusedInputError as refusal:
            error = refusal
        yield StudyJob(
            source=assemble.Source(pseudonym=pseudonym(key), kind="nifti", key=key, files={"accepted": 1}),
            nifti=path,
            error=error,
        )


def _report_sources(job: StudyJob) -> Sources | None:
    """Return the instances that the report is about: those read, or else the CT images of the study.

    Without a CT image it is about all else that the study holds. Never about our own results: with an earlier
    report among its sources a second run would write another one instead of replacing it. A study of nothing
    but our results gets no report, nor does one whose files name several patients: whose record would it go
    to?
    """
    if job.study is None or job.study.refusal is not None:
        return None
    if job.volume is not None:
        return normalise(job.volume.headers, job.study.study_instance_uid)
    held = [instance.header for series in job.study.series for instance in series.instances]
    others = [header for header in held if not is_result(header)]
    images = [header for header in others if header.SOPClassUID in CT_IMAGES]
    return normalise(images or others, job.study.study_instance_uid) if others else None
