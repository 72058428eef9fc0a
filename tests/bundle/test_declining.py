"""Volumes that cannot be assessed go on as a reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from monai.transforms import Compose

from covid_ct_mask_net.declining import (
    DECLINED,
    SLICE_INDICES,
    SLICES,
    DecliningCompose,
    declined,
    declining_cause,
)
from covid_ct_mask_net.errors import NotAssessableError, OutputError, RefusedInputError, UsageError

NOT_CHEST = NotAssessableError("NOT_CHEST", "No lung.")


def _add(name: str) -> Callable[[dict], dict]:
    return lambda data: {**data, name: len(data)}


def _raise(error: Exception) -> Callable[[dict], dict]:
    def transform(data: dict) -> dict:
        raise error

    return transform


def test_transforms_are_applied_in_order() -> None:
    data = {"volume": 0}
    assert DecliningCompose([_add("a"), _add("b")])(data) == {"volume": 0, "a": 1, "b": 2}
    assert data == {"volume": 0}
    assert DecliningCompose([])(data) == data


@pytest.mark.parametrize("error", [NOT_CHEST, RefusedInputError("NIFTI_SIZE", "Too large.")])
def test_the_step_that_declines_is_the_last_and_what_was_known_stays(error: Exception) -> None:
    out = DecliningCompose([_add("source_key"), _raise(error), _raise(ZeroDivisionError())])({"volume": 0})
    assert out[DECLINED] is error
    assert out["source_key"] == 1
    assert out[SLICES].shape == (0, 1, 1, 1)
    assert len(out[SLICE_INDICES]) == 0
    assert declined(out) is error


def test_a_declined_volume_passes_untouched() -> None:
    data = {DECLINED: NOT_CHEST}
    assert DecliningCompose([_raise(ZeroDivisionError())])(data) == data


def test_inside_another_one_the_rest_is_left_out_too() -> None:
    inner = DecliningCompose([_add("a"), _raise(NOT_CHEST)])
    out = DecliningCompose([_add("key"), inner, _raise(ZeroDivisionError())])({})
    assert out["key"] == 0
    assert out["a"] == 1
    assert out[DECLINED] is NOT_CHEST


def test_monai_wraps_what_transforms_raise() -> None:
    out = DecliningCompose([Compose([_add("a"), _raise(NOT_CHEST)])])({})
    assert out[DECLINED] is NOT_CHEST


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), OutputError("OUTPUT_UNWRITABLE", "Full."), UsageError("SETTING", "Wrong.")]
)
def test_other_errors_end_the_run(error: Exception) -> None:
    with pytest.raises(type(error)):
        DecliningCompose([_raise(error)])({})


def test_the_cause_is_looked_for_behind_other_exceptions() -> None:
    try:
        try:
            raise NOT_CHEST
        except NotAssessableError as error:
            raise RuntimeError("applying transform") from error
    except RuntimeError as error:
        assert declining_cause(error) is NOT_CHEST  # noqa: PT017
    assert declining_cause(RuntimeError()) is None
    assert declined({}) is None
    assert declined({DECLINED: "text"}) is None
