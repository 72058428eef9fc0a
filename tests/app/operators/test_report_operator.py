from __future__ import annotations

from monai.deploy.core import Fragment

from builders.ports import InputPort
from builders.results import source
from covid_ct_mask_net.app.operators.report_operator import ReportOperator
from covid_ct_mask_net.app.study_job import StudyJob


def test_a_study_is_noted_as_finished_only_after_its_report() -> None:
    events: list[str] = []

    class Chain:
        def report(self, job: StudyJob) -> None:
            events.append(f"report {job.source.pseudonym}")

    operator = ReportOperator(
        Fragment(), name="report", chain=Chain(),
        finished=lambda job: events.append(f"finished {job.source.pseudonym}"),
    )  # fmt: skip
    job = StudyJob(source())
    operator.compute(InputPort(study=job), None, None)
    name = job.source.pseudonym
    assert events == [f"report {name}", f"finished {name}"]
