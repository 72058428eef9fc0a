from __future__ import annotations

from collections.abc import Iterator

from monai.deploy.core import Fragment

from builders.ports import OutputPort
from builders.results import source
from covid_ct_mask_net.app.operators.intake_operator import IntakeOperator
from covid_ct_mask_net.app.study_job import StudyJob


def test_studies_come_one_a_tick_and_no_sooner_than_needed() -> None:
    made: list[int] = []

    def jobs() -> Iterator[StudyJob]:
        for number in range(3):
            made.append(number)
            yield StudyJob(source(number))

    operator, output = IntakeOperator(Fragment(), name="intake", jobs=jobs()), OutputPort()
    for tick in range(3):
        # One study is looked ahead for: whether there is one more decides if there is another tick.
        assert len(made) == min(tick + 1, 3)
        operator.compute(None, output, None)
    assert [job.source.pseudonym for _, job in output.emitted] == [source(n).pseudonym for n in range(3)]
