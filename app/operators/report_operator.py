"""Last operator: the result set of a study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.deploy.core import Fragment, Operator, OperatorSpec

from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.operators.intake_operator import JOB
from covid_ct_mask_net.app.study_job import StudyJob


class ReportOperator(Operator):
    """Write ``result.json`` and the DICOM results of each study.

    Input port ``study``: `StudyJob`. ``finished`` is called with each job once its results are on disk.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        chain: StudyChain,
        finished: Callable[[StudyJob], object],
        **kwargs: Any,
    ) -> None:
        self._chain = chain
        self._finished = finished
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.input(JOB)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write the results of a study."""
        del op_output, context
        job: StudyJob = op_input.receive(JOB)
        self._chain.report(job)
        self._finished(job)
