"""The operators between intake and report: one stage of the chain each."""

from __future__ import annotations

from typing import Any

from monai.deploy.core import Fragment, Operator, OperatorSpec

from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.operators.intake_operator import JOB
from covid_ct_mask_net.app.study_job import StudyJob


class StageOperator(Operator):
    """Run one stage of the chain on a study; a study that was given up passes through.

    Input and output port ``study``: `StudyJob`. Subclasses name their stage.
    """

    stage: str

    def __init__(self, fragment: Fragment, *args: Any, chain: StudyChain, **kwargs: Any) -> None:
        self._chain = chain
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input(JOB)
        spec.output(JOB)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Run the stage and pass the study on."""
        del context
        job: StudyJob = op_input.receive(JOB)
        self._chain.attempt(self.stage, dict(self._chain.stages)[self.stage], job)
        op_output.emit(job, JOB)


class SeriesSelectionOperator(StageOperator):
    """Choose the series of a study, with reasons."""

    stage = "select"


class VolumeOperator(StageOperator):
    """Read the chosen series as a volume in HU and judge its geometry."""

    stage = "load"


class LungSlicesOperator(StageOperator):
    """Canonical orientation, lung mask, windowed lung slices."""

    stage = "prepare"


class SliceInferenceOperator(StageOperator):
    """Run both networks over the lung slices."""

    stage = "infer"


class TriageOperator(StageOperator):
    """Link lesions, measure involvement, classify the volume."""

    stage = "triage"
