from __future__ import annotations

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
