from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from covid_ct_mask_net import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError, 2),
        (errors.NotAssessableError, 3),
        (errors.RefusedInputError, 4),
        (errors.UntrustedModelError, 5),
        (errors.OutputError, 6),
        (errors.CovidCTMaskNetError, 70),
    ],
)
def test_exit_codes_are_those_of_the_documentation(
    error: type[errors.CovidCTMaskNetError], code: int
) -> None:
    raised = error("REASON", "What was found and what to do.")
    assert raised.exit_code == code
    assert raised.code == "REASON"
    assert str(raised) == raised.sentence == "What was found and what to do."


def test_the_expected_failure_behind_what_a_library_raises() -> None:
    expected = errors.UsageError("A", "B.")
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("transform X") from expected
    assert errors.expected_cause(caught.value) is expected
    assert errors.expected_cause(expected) is expected
    assert errors.expected_cause(ValueError("other")) is None


class _More(errors.OutputError):
    """With an argument of its own, as that of associations."""

    def __init__(self, code: str, sentence: str, *, passing: bool) -> None:
        super().__init__(code, sentence)
        self.passing = passing


def _sent(error: Exception) -> Any:
    return pickle.loads(pickle.dumps(error))  # noqa: S301


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, _sent])
def test_errors_are_copied_and_cross_processes_with_code_and_sentence(again: Callable[[Any], Any]) -> None:
    for kind in (errors.RefusedInputError, errors.CovidCTMaskNetError):
        error = again(kind("REASON", "It is so; do this."))
        assert type(error) is kind
        assert (error.code, error.sentence, str(error)) == ("REASON", "It is so; do this.", error.sentence)
    more = again(_More("REASON", "It is so.", passing=True))
    assert (type(more), more.code, more.passing, str(more)) == (_More, "REASON", True, "It is so.")
