from __future__ import annotations

from typing import Any

import pytest
from monai.deploy.core import Fragment

from builders.ports import InputPort, OutputPort
from builders.results import source
from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.operators import stage_operator
from covid_ct_mask_net.app.study_job import StudyJob

OPERATORS = [
    stage_operator.SeriesSelectionOperator,
    stage_operator.VolumeOperator,
    stage_operator.LungSlicesOperator,
    stage_operator.SliceInferenceOperator,
    stage_operator.TriageOperator,
]


class Chain:
    """Notes which stages were attempted."""

    def __init__(self) -> None:
        self.attempted: list[str] = []
        self.stages = StudyChain.stages.fget(self)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return name

    def attempt(self, name: str, stage: Any, job: StudyJob) -> None:
        assert job.error is None
        assert stage == name
        self.attempted.append(name)


def test_the_operators_are_the_stages_of_the_chain_in_order() -> None:
    chain = Chain()
    assert [operator.stage for operator in OPERATORS] == [name for name, _ in chain.stages]


@pytest.mark.parametrize("kind", OPERATORS)
def test_an_operator_runs_its_stage_and_passes_the_study_on(kind: type[stage_operator.StageOperator]) -> None:
    chain, job, output = Chain(), StudyJob(source()), OutputPort()
    operator = kind(Fragment(), name=kind.stage, chain=chain)
    operator.compute(InputPort(study=job), output, None)
    assert chain.attempted == [kind.stage]
    assert output.emitted == [("study", job)]
