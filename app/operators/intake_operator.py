"""First operator: the studies of the input folder, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monai.deploy.conditions import BooleanCondition  # type: ignore[attr-defined]
from monai.deploy.core import Fragment, Operator, OperatorSpec

from covid_ct_mask_net.app.study_job import StudyJob

JOB = "study"


class IntakeOperator(Operator):
    """Emit one `StudyJob` per tick until all studies are through.

    The next study is emitted only when the operator behind has taken the last one, so that memory holds few
    studies at a time however many there are.

    Output port ``study``: `StudyJob`.
    """

    def __init__(self, fragment: Fragment, *args: Any, jobs: Iterator[StudyJob], **kwargs: Any) -> None:
        self._jobs = jobs
        self._next = next(jobs, None)
        self._more = BooleanCondition(fragment, name="more_studies", enable_tick=self._next is not None)
        super().__init__(fragment, self._more, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.output(JOB)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Emit the next study."""
        del op_input, context
        op_output.emit(self._next, JOB)
        self._next = next(self._jobs, None)
        if self._next is None:
            self._more.disable_tick()
